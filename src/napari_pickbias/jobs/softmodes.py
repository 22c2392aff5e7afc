"""The soft-modes job: a map and its particles' poses in; modes, amplitudes, uncertainties out; no image is needed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.jobs.softmodes_images import check_images, unsettled_warning, with_images
from napari_pickbias.jobs.softmodes_inputs import Problem, SoftmodesInputs, check_shape, prepare
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.jobs.softmodes_verdict import Difference, Verdict, judge, warnings_of
from napari_pickbias.jobs.softmodes_whatif import (
    Scenario,
    advice,
    best_advice,
    explicit_scenarios,
    kept_modes,
    wanted_scenarios,
)
from napari_pickbias.records import Particles, Volume
from napari_pickbias.softmodes import SoftModes, soft_modes
from napari_pickbias.softmodes.coverage import Coverage, coverage
from napari_pickbias.softmodes.hessian import Hessian
from napari_pickbias.softmodes.joint import Joint, joint_information
from napari_pickbias.softmodes.metric import riesz_metric
from napari_pickbias.softmodes.modes import information_along
from napari_pickbias.softmodes.path import PathPoint, linear_path, path_information
from napari_pickbias.softmodes.solver import Restart
from napari_pickbias.softmodes.views import make_views


@dataclass(frozen=True)
class SoftmodesResult:
    """Everything the report and the adapters need.

    Attributes
    ----------
    parameters : SoftmodesParameters
    found : SoftModes
        In the working box.
    volume : ndarray, shape (n, n, n)
        The map in the working box, within the support.
    box_px : int
        Working box ``n``.
    voxel_size_angstrom : float
        Of the working box.
    map_box_px : int
        Side of the map.
    rotations : ndarray, shape (J, 3, 3)
        Views computed with.
    weights : ndarray, shape (J,)
        Images that each stands for.
    row_view : ndarray of int, shape (particles,), or None
        View of each particle; None when the views are not the particles' own.
    particles : int
    warnings : list of str
    verdict : Verdict
    coverage : Coverage
        Of Fourier space by the views.
    binning_error : ndarray, shape (k,), or None
        Relative change of each mode's value when other particles represent the views; None where nothing was binned.
    scenarios, advice : list of Scenario
        What-if tables; empty where not asked for.
    path : list of PathPoint
        Along the path to another map; empty where none was given.
    difference : Difference or None
        Of the map from the last map of the path.
    """

    parameters: SoftmodesParameters
    found: SoftModes
    volume: NDArray[np.float64]
    box_px: int
    voxel_size_angstrom: float
    map_box_px: int
    rotations: NDArray[np.float64]
    weights: NDArray[np.float64]
    row_view: NDArray[np.int64] | None
    particles: int
    warnings: list[str]
    verdict: Verdict
    coverage: Coverage
    binning_error: NDArray[np.float64] | None = None
    scenarios: list[Scenario] = field(default_factory=list)
    advice: list[Scenario] = field(default_factory=list)
    path: list[PathPoint] = field(default_factory=list)
    difference: Difference | None = None

    @property
    def mode_scale(self) -> float:
        """Factor of a resampled mode that gives it unit Riesz norm in the map's own box; amplitudes are over it."""
        return (self.box_px / self.map_box_px) ** 2

    def in_map_box(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a volume of the working box in the map's box."""
        return np.asarray(fourier_resample_volume(values, self.map_box_px), np.float64)


def softmodes_job(
    volume: Volume | SoftmodesInputs,
    particles: Particles | None,
    parameters: SoftmodesParameters,
    mask: Volume | None = None,
    checkpoints: Checkpoints | None = None,
    threads: int = 1,
) -> Generator[Progress, None, SoftmodesResult]:
    """Find the soft modes of a map; yields :class:`Progress`, returns a :class:`SoftmodesResult`.

    Parameters
    ----------
    volume : Volume or SoftmodesInputs
        Refined map, a cube; or all inputs of the job.
    particles : Particles
        With poses; their images are opened with ``images`` alone.
    parameters : SoftmodesParameters
    mask : Volume or None
        Of the map's shape; 0.5 and above is the support.
    checkpoints : Checkpoints or None
        Where finished pieces are kept, to go on from with the same result.
    threads : int
        Results do not depend on it.

    Raises
    ------
    InputError
        Everything the user can mend; see :func:`~napari_pickbias.jobs.softmodes_inputs.prepare`.
    """
    if isinstance(volume, Volume):
        assert particles is not None
        volume = SoftmodesInputs(volume, particles, mask)
    inputs, kept = volume, NoCheckpoints() if checkpoints is None else checkpoints
    warnings = list(inputs.particles.notes)
    yield Progress("prepare", 0, 1)
    if parameters.images:
        check_images(inputs, parameters)
    problem = prepare(inputs, parameters, warnings, threads)
    if parameters.images:
        problem = yield from with_images(inputs, problem, parameters, warnings)
    wanted = wanted_scenarios(inputs, problem, parameters)
    maps = _path_maps(inputs, problem, parameters)
    yield Progress("solve", 0, 1)
    found = _solve(problem, parameters, kept)
    scenarios = yield from explicit_scenarios(inputs, problem, parameters, found, wanted, kept)
    tried: list[Scenario] = []
    if parameters.what_if:
        tried = yield from advice(problem, parameters, kept)
        warnings.append(f"what if: {best_advice(tried)}")
    error = _binning_error(problem, parameters, found)
    path, difference = yield from _walk(inputs, problem, parameters, found, maps)
    views = coverage(problem.rotations, problem.size, problem.weights, problem.symmetry)
    warnings += warnings_of(found, error) + unsettled_warning(found, problem)
    verdict = judge(found, views, difference)
    return SoftmodesResult(
        parameters, found, np.where(problem.support, problem.working, 0), problem.size, problem.voxel_size_angstrom,
        inputs.volume.data.shape[0], problem.rotations, problem.weights,
        problem.bins.row_view if parameters.views is None else None, len(inputs.particles), warnings, verdict, views,
        error, scenarios, tried, path, difference,
    )  # fmt: skip


def _solve(problem: Problem, parameters: SoftmodesParameters, kept: Checkpoints) -> SoftModes:
    """Return the modes of the problem: from what was kept, or from where the solver was stopped."""
    found = kept_modes(kept.load("modes"))
    if found is not None:
        return found
    saved = kept.load("round")
    restart = None if saved is None else Restart(np.asarray(saved["vectors"]), int(saved["done"]))

    def keep(state: Restart) -> None:
        kept.save("round", {"vectors": state.vectors, "done": np.asarray(state.done)})

    found = soft_modes(
        problem.working, problem.rotations, problem.filters(), problem.weights, mask=problem.support,
        modes=parameters.modes, noise_variance=problem.variance, rng=np.random.default_rng(parameters.seed),
        iterations=parameters.iterations, shifts=parameters.shifts, contrast=parameters.contrast,
        symmetry=problem.symmetry, coarsest_px=problem.coarsest_px(parameters), restart=restart, on_round=keep,
        threads=problem.threads, observed=problem.observed,
    )  # fmt: skip
    kept.save("modes", dict(found.__dict__))
    return found


def _binning_error(problem: Problem, parameters: SoftmodesParameters, found: SoftModes) -> NDArray[np.float64] | None:
    """Compare the modes' values with those that other representatives of the views give."""
    count = len(problem.all_rotations)
    if len(problem.rotations) == count or problem.observed is not None:
        return None
    cells = problem.bins.row_view
    order = np.random.default_rng((parameters.seed, 3)).permutation(count)
    _, first = np.unique(cells[order], return_index=True)
    other = order[first]
    # the filters stay those of the cell: what is tested is the direction, the coarser of the two
    free, _ = information_along(
        problem.working, found.modes, problem.all_rotations[other], problem.filters(), problem.weights,
        shifts=parameters.shifts, contrast=parameters.contrast, mask=problem.support,
        coarsest_px=problem.coarsest_px(parameters),
    )  # fmt: skip
    return np.asarray(np.abs(free / np.maximum(found.eigenvalues, 1e-300) - 1))


def _joint(
    inputs: SoftmodesInputs, problem: Problem, parameters: SoftmodesParameters, maps: NDArray[np.float64]
) -> Joint:
    """Ask whether one map would explain this map's particles and the other map's."""
    assert inputs.other is not None
    plain = parameters.model_copy(update={"views": None, "particles_count": None})
    other = prepare(replace(inputs, particles=inputs.other, noise=None, half_maps=None), plain, [])
    hessians = []
    for one, volume in ((problem, maps[0]), (other, maps[-1])):
        filters = one.filters()
        if one is other and problem.noise is not None:
            # the same noise: that of the first set's first group
            factors = problem.noise.factors[:1]
            filters = np.broadcast_to(factors, (len(one.rotations), *factors.shape[1:])) * (
                1.0 if filters is None else filters
            )
        views = make_views(one.rotations, one.size, ctf=filters, weights=one.weights)
        hessians.append(
            Hessian(
                np.where(problem.support, volume, 0), views, problem.support, images=float(one.weights.sum()),
                shifts=parameters.shifts, contrast=parameters.contrast, dense=False,
            )
        )  # fmt: skip
    return joint_information(hessians[0], hessians[1], (maps[-1] - maps[0])[problem.support])


def _path_maps(
    inputs: SoftmodesInputs, problem: Problem, parameters: SoftmodesParameters
) -> NDArray[np.float64] | None:
    if not inputs.path:
        return None
    frames = [problem.working]
    for other in inputs.path:
        check_shape(other, inputs.volume, "--path-to", "a map")
        frames.append(np.asarray(fourier_resample_volume(other.data.astype(np.float64), problem.size)))
    if np.allclose(np.where(problem.support, frames[-1] - frames[0], 0), 0):
        raise InputError("--path-to: is the same map within the mask; give another conformation or class")
    return linear_path(frames[0], frames[1], parameters.path_steps) if len(frames) == 2 else np.stack(frames)


def _walk(
    inputs: SoftmodesInputs,
    problem: Problem,
    parameters: SoftmodesParameters,
    found: SoftModes,
    maps: NDArray[np.float64] | None,
) -> Generator[Progress, None, tuple[list[PathPoint], Difference | None]]:
    if maps is None:
        return [], None
    views = make_views(problem.rotations, problem.size, ctf=problem.filters(), weights=problem.weights)
    points: list[PathPoint] = []
    images = float(problem.weights.sum())
    for point in path_information(
        maps, views, problem.support, images=images, shifts=parameters.shifts, contrast=parameters.contrast
    ):
        yield Progress("path", len(points), len(maps))
        points.append(point)
    step = (maps[-1] - maps[0])[problem.support]
    metric = riesz_metric(problem.support)
    weighted = metric(step)
    free, known = information_along(
        problem.working, (maps[-1] - maps[0])[None], problem.rotations, problem.filters(), problem.weights,
        shifts=parameters.shifts, contrast=parameters.contrast, mask=problem.support,
    )  # fmt: skip
    norm = float(step @ weighted)
    parts = np.array([mode[problem.support] @ weighted for mode in found.modes])
    joint = None
    if inputs.other is not None:
        yield Progress("path", len(maps), len(maps) + 1, "one map for both sets of particles")
        joint = _joint(inputs, problem, parameters, maps)
    loss = 0.5 * images * norm * np.array([free[0], known[0]]) / problem.variance
    energy = (found.amplitudes[0] / found.amplitude_fraction[0]) ** 2
    return points, Difference(
        float(free[0]), float(known[0]), float((parts**2).sum() / norm), float(np.sqrt(norm / energy)),
        float(loss[0]), float(loss[1]), None if joint is None else joint.share,
        None if joint is None else 0.5 * joint.value / problem.variance,
    )  # fmt: skip
