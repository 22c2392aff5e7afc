"""What if: other views, defoci, numbers of particles; what they would do to the softest values of a map."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.jobs.softmodes_inputs import (
    Problem,
    SoftmodesInputs,
    mean_defocus,
    parse_direction,
    poses_of,
    prepare,
)
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.records import CtfParameters
from napari_pickbias.softmodes import SoftModes, soft_modes

ADVICE_BOX = 20
ADVICE_VIEWS = 384
ADVICE_TILTS = (20.0, 30.0, 40.0)
ADVICE_DEFOCI = (0.5, 1.5, 2.0)
ADVICE_MODES = 3


Wanted = tuple[str, NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]


@dataclass(frozen=True)
class Scenario:
    """One row of the what-if table.

    Attributes
    ----------
    name : str
    particles : float
    eigenvalues, known_pose_eigenvalues, amplitude_fraction : ndarray, shape (k,)
        Of its own softest modes.
    gain : float
        Information along its softest mode (eigenvalue times particles) over that of the data.
    small_box : bool
        Computed in the small box; compare with rows of the same kind.
    """

    name: str
    particles: float
    eigenvalues: NDArray[np.float64]
    known_pose_eigenvalues: NDArray[np.float64]
    amplitude_fraction: NDArray[np.float64]
    gain: float
    small_box: bool = False


def scenario(name: str, found: SoftModes, base: SoftModes, *, small_box: bool = False) -> Scenario:
    """Return a row; ``base`` is what it is compared with."""
    gain = found.eigenvalues[0] * found.images / max(base.eigenvalues[0] * base.images, 1e-300)
    return Scenario(
        name, found.images, found.eigenvalues, found.known_pose_eigenvalues, found.amplitude_fraction, float(gain),
        small_box,
    )  # fmt: skip


def tilted(rotations: NDArray[np.float64], degrees: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the views of the same particles on a stage tilted by ``degrees``.

    A particle's in-plane angle is arbitrary, so the axis of the tilt has a random azimuth in its image.
    """
    azimuth = rng.uniform(0, 2 * np.pi, len(rotations))
    axis = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(len(azimuth))], axis=1)
    return np.asarray(Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix() @ rotations)


def explicit_scenarios(
    inputs: SoftmodesInputs,
    problem: Problem,
    parameters: SoftmodesParameters,
    found: SoftModes,
    wanted: Sequence[Wanted],
    checkpoints: Checkpoints,
) -> Generator[Progress, None, list[Scenario]]:
    """Compute what the options ask for (``wanted``) beside what ``found`` says."""
    base = found
    rows: list[Scenario] = []
    if parameters.views is not None and inputs.particles.poses is not None:
        plain = parameters.model_copy(update={"views": None, "particles_count": None})
        own = prepare(inputs, plain, [], problem.threads)
        yield Progress("what if", 0, 1, "the data as they are")
        kept = _kept(checkpoints, "own")
        base = kept or solve(own, plain, own.rotations, own.filters(), own.weights)
        checkpoints.save("own", dict(base.__dict__))
        rows.append(scenario("the data", base, base))
    elif parameters.particles_count is not None and parameters.views is None:
        count = len(inputs.particles)
        base = replace(found, images=float(count))
        fewer = found.amplitude_fraction * np.sqrt(found.images / count)
        rows.append(replace(scenario("the data", base, base), amplitude_fraction=fewer))
    rows.append(scenario(_main_name(parameters), found, base))
    for number, (name, rotations, filters, weights) in enumerate(wanted):
        yield Progress("what if", number, len(wanted), name)
        other = _kept(checkpoints, f"scenario_{number}")
        if other is None:
            other = solve(problem, parameters, rotations, filters, weights)
            checkpoints.save(f"scenario_{number}", dict(other.__dict__))
        rows.append(scenario(name, other, base))
    return rows if len(rows) > 1 else []


def _main_name(parameters: SoftmodesParameters) -> str:
    parts = ["the data" if parameters.views is None else f"views {parameters.views}"]
    if parameters.particles_count is not None:
        parts.append(f"{parameters.particles_count} particles")
    return ", ".join(parts)


def wanted_scenarios(inputs: SoftmodesInputs, problem: Problem, parameters: SoftmodesParameters) -> list[Wanted]:
    """Return the cases that ``--add-views`` and ``--defocus`` ask for: name, rotations, filters, weights.

    Raises
    ------
    InputError
        When an option cannot be read, or there is no CTF whose defocus could change.
    """
    rng = np.random.default_rng((parameters.seed, 1))
    rows: list[Wanted] = []
    own = problem.filters()
    if parameters.add_views is not None:
        more = _added_views(inputs, problem, parameters.add_views, rng)
        filters = None if own is None else np.concatenate([own, own[np.arange(len(more)) % len(own)]])
        share = problem.weights.sum() / len(more) if len(more) != len(problem.weights) else problem.weights
        weights = np.concatenate([problem.weights, np.broadcast_to(share, len(more))])
        name = f"as many particles again, {parameters.add_views}"
        rows.append((name, np.concatenate([problem.rotations, more]), filters, weights))
    for value in defocus_values(parameters.defocus):
        if problem.ctf is None:
            raise InputError("--defocus: the particles have no CTF (voltage, Cs, ...); give particles that have one")
        filters = problem.filters(values=at_defocus(problem.ctf, value))
        rows.append((f"defocus {value:g} Å", problem.rotations, filters, problem.weights))
    return rows


def defocus_values(text: str | None) -> list[float]:
    """Read ``--defocus``: numbers of Å, separated by commas.

    Raises
    ------
    InputError
        If it is none.
    """
    if text is None:
        return []
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or not all(0 < value < 1e6 for value in values):
        raise InputError(f"--defocus {text}: is no list of defoci in Å; give such as 10000,17000,23000")
    return values


def at_defocus(values: CtfParameters, mean_angstrom: float) -> CtfParameters:
    """Return the same CTFs at another mean defocus; astigmatism stays."""
    move = mean_angstrom - mean_defocus(values)
    return replace(
        values, defocus_u_angstrom=values.defocus_u_angstrom + move, defocus_v_angstrom=values.defocus_v_angstrom + move
    )


def _added_views(inputs: SoftmodesInputs, problem: Problem, text: str, rng: np.random.Generator) -> NDArray[np.float64]:
    count = len(problem.rotations)
    if inputs.add_views is not None:
        rotations = poses_of(inputs.add_views, f"--add-views {text}")
        return rotations if len(rotations) <= count else rotations[rng.choice(len(rotations), count, replace=False)]
    if text.startswith("tilt:"):
        try:
            degrees = float(text[5:])
        except ValueError:
            degrees = 0.0
        if not 0 < degrees <= 70:
            raise InputError(f"--add-views {text}: is no stage tilt; give tilt:DEG with DEG above 0, at most 70")
        return tilted(problem.rotations, degrees, rng)
    return random_rotations(count, rng, parse_direction(text, "--add-views"))


def solve(
    problem: Problem,
    parameters: SoftmodesParameters,
    rotations: NDArray[np.float64],
    filters: NDArray[np.float64] | None,
    weights: NDArray[np.float64],
    *,
    modes: int | None = None,
) -> SoftModes:
    """Return the soft modes of the problem's map with other views."""
    return soft_modes(
        problem.working, rotations, filters, weights, mask=problem.support, modes=modes or parameters.modes,
        noise_variance=problem.variance, rng=np.random.default_rng(parameters.seed), iterations=parameters.iterations,
        shifts=parameters.shifts, contrast=parameters.contrast, symmetry=problem.symmetry,
        coarsest_px=problem.coarsest_px(parameters), threads=problem.threads,
    )  # fmt: skip


def advice(
    problem: Problem, parameters: SoftmodesParameters, checkpoints: Checkpoints
) -> Generator[Progress, None, list[Scenario]]:
    """Try stage tilts, defoci and numbers of particles in a small box, each with as many particles as the data.

    Values in the small box differ from those of the working box; their ratios are what is predicted.
    """
    rng = np.random.default_rng((parameters.seed, 2))
    small = _small(problem, rng)
    rotations, filters, weights = small.rotations, small.filters(), small.weights
    wanted: list[Wanted] = [("the data", rotations, filters, weights)]
    wanted += [(f"stage tilted by {tilt:g}°", tilted(rotations, tilt, rng), filters, weights) for tilt in ADVICE_TILTS]
    half = np.arange(len(rotations)) % 2 == 0
    mixed = np.where(half[:, None, None], rotations, tilted(rotations, 30.0, rng))
    wanted.append(("half of them tilted by 30°", mixed, filters, weights))
    wanted.append(("uniform views", random_rotations(len(rotations), rng), filters, weights))
    if small.ctf is not None:
        middle = float(np.average(mean_defocus(small.ctf), weights=weights))
        for factor in ADVICE_DEFOCI:
            values = at_defocus(small.ctf, factor * middle)
            wanted.append((f"defocus {factor * middle:.0f} Å", rotations, small.filters(values=values), weights))
    rows: list[Scenario] = []
    base: SoftModes | None = None
    for number, (name, views, transfer, share) in enumerate(wanted):
        yield Progress("advice", number, len(wanted), name)
        found = _kept(checkpoints, f"advice_{number}")
        if found is None:
            found = solve(small, parameters, views, transfer, share, modes=ADVICE_MODES)
            checkpoints.save(f"advice_{number}", dict(found.__dict__))
        base = base or found
        rows.append(scenario(name, found, base, small_box=True))
        if number == 0:
            for factor in (2, 4):
                rows.append(
                    replace(
                        rows[0], name=f"{factor} times as many particles", particles=factor * rows[0].particles,
                        amplitude_fraction=rows[0].amplitude_fraction / np.sqrt(factor), gain=float(factor),
                    )
                )  # fmt: skip
    return rows


def _small(problem: Problem, rng: np.random.Generator) -> Problem:
    """Return the problem in the small box with fewer views."""
    size = min(ADVICE_BOX, problem.size)
    count = len(problem.rotations)
    rows = np.arange(count)
    weights = problem.weights
    if count > ADVICE_VIEWS:
        rows = np.sort(rng.choice(count, ADVICE_VIEWS, replace=False, p=weights / weights.sum()))
        weights = np.full(ADVICE_VIEWS, problem.weights.sum() / ADVICE_VIEWS)
    support = fourier_resample_volume(problem.support.astype(np.float64), size) >= 0.5
    noise = problem.noise
    if noise is not None and size != problem.size:
        keep = np.r_[0 : (size + 1) // 2, problem.size - size // 2 : problem.size]
        noise = noise._replace(factors=noise.factors[:, keep, : size // 2 + 1])
    return replace(
        problem,
        working=np.asarray(fourier_resample_volume(problem.working, size), np.float64),
        support=support,
        voxel_size_angstrom=problem.voxel_size_angstrom * problem.size / size,
        rotations=problem.rotations[rows],
        ctf=None if problem.ctf is None else problem.ctf.take(rows),
        noise_group=problem.noise_group[rows],
        noise=noise,
        variance=problem.variance * (size / problem.size) ** 4,
        weights=weights,
    )


def best_advice(rows: list[Scenario]) -> str:
    """Say which row helps most, in one sentence."""
    offered = [row for row in rows[1:] if not row.name.startswith(("uniform", "2 times", "4 times"))]
    top = max(offered, key=lambda row: row.gain)
    uniform = next(row for row in rows if row.name.startswith("uniform"))
    if top.gain < 1.15:
        return (
            "no tilt or defocus tried would help much with the same number of particles; ideal (uniform) views would "
            f"give {uniform.gain:.2g} times the information along the softest direction, 2 times as many particles 2"
        )
    return (
        f"what would help most with the same number of particles: {top.name}, {top.gain:.2g} times the information "
        f"along the softest direction, as much as {top.gain:.2g} times as many particles of the present kind (ideal, "
        f"uniform views: {uniform.gain:.2g})"
    )


def _kept(checkpoints: Checkpoints, name: str) -> SoftModes | None:
    return kept_modes(checkpoints.load(name))


def kept_modes(saved: dict[str, NDArray[np.generic]] | None) -> SoftModes | None:
    """Return soft modes that were kept as a finished piece, or None."""
    if saved is None:
        return None
    numbers = {"noise_variance", "images", "unsettled"}
    return SoftModes(**{key: float(value) if key in numbers else value for key, value in saved.items()})  # type: ignore[arg-type]
