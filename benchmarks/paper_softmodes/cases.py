"""The soft-mode paper's case studies on real maps: views, defocus, a path, closed forms, equatorial family, split data.

    python benchmarks/paper_softmodes/cases.py DATA OUT [views|defocus|path|closed|equator|split ...]

DATA is a folder with ``aspire-python/clean70SRibosome_vol_65p.mrc``, ``maps/emd_1832.map.gz``, ``maps/emd_2479.map``,
``maps/models/adk_open.pdb`` and ``adk_closed.pdb``. Writes ``softmodes_<case>.json`` and ``softmodes_<case>.png`` into
OUT. Each case is one to four minutes on one core. Box 24 (the paper: 2 pi K = 48, about 31), 512 views (the paper:
1024), shifts unknown (the paper: known), noise 13 times the energy of a mean projection over the 64 x 64 pixels of
EMPIAR-10005's images. Source: A. V. Rangan et al., sections 3, 22 and 24.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.imaging.phantoms import splat_atoms
from napari_pickbias.imaging.rotations import matrices_from_euler, parse_views, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.records import read_volume
from napari_pickbias.report.palette import LIGHT
from napari_pickbias.report.softmodes_surfaces import draw_ends, isosurface, map_level
from napari_pickbias.softmodes import SoftModes, soft_modes
from napari_pickbias.softmodes.coverage import coverage
from napari_pickbias.softmodes.hessian import Hessian
from napari_pickbias.softmodes.joint import joint_information
from napari_pickbias.softmodes.metric import riesz_metric
from napari_pickbias.softmodes.modes import NOISE_RATIO, mean_energy
from napari_pickbias.softmodes.path import path_information
from napari_pickbias.softmodes.realign import realign
from napari_pickbias.softmodes.views import make_views, slices_and_tangents

SIZE, VIEWS = 24, 512
NOISE_PIXELS = 64**2


def ribosome(data: Path, size: int = SIZE) -> tuple[np.ndarray, float]:
    volume = read_volume(data / "aspire-python" / "clean70SRibosome_vol_65p.mrc", 5.0)
    return cropped(volume.data, size), 5.0 * 65 / size


def emd(data: Path, name: str, size: int = SIZE) -> tuple[np.ndarray, float]:
    volume = read_volume(data / "maps" / name)
    return cropped(volume.data, size), volume.voxel_size_angstrom * volume.data.shape[0] / size


def cropped(values: np.ndarray, size: int) -> np.ndarray:
    volume = np.asarray(fourier_resample_volume(values.astype(np.float64), size))
    return np.where(soft_ball(size, size / 2 - 1) >= 0.5, volume, 0)


def directions(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Views by name; ``mixed`` is like the paper's empirical set, partly about the equator, partly at the poles."""
    if kind == "polar density":
        grid = np.linspace(0, np.pi / 2, 4001)
        mass = np.cumsum(np.exp(-(grid**2) / (2 * 0.61**2)) * np.sin(grid))
        tilt = np.degrees(np.interp(rng.random(count), mass / mass[-1], grid))
        tilt = np.where(rng.random(count) < 0.5, tilt, 180 - tilt)
        angles = np.stack([rng.uniform(-180, 180, count), tilt, rng.uniform(-180, 180, count)], axis=1)
        return matrices_from_euler(angles)
    if kind == "mixed":
        side = 2 * count // 3
        parts = [(side, "equatorial:20"), (count - side, "polar:30")]
        return np.concatenate([random_rotations(n, rng, parse_views(name)) for n, name in parts])
    return random_rotations(count, rng, parse_views(kind))


def noise_of(volume: np.ndarray) -> float:
    support = soft_ball(len(volume), len(volume) / 2 - 1) >= 0.5
    return NOISE_RATIO * mean_energy(volume, support) / NOISE_PIXELS


def numbers(found: SoftModes) -> dict[str, Any]:
    return {
        "eigenvalues": found.eigenvalues.round(5).tolist(),
        "known_pose_eigenvalues": found.known_pose_eigenvalues.round(5).tolist(),
        "residuals": found.residuals.round(5).tolist(),
        "amplitude_fraction": found.amplitude_fraction.round(5).tolist(),
        "pose_change_deg": found.pose_change_deg.round(4).tolist(),
        "likelihood_ratio": found.misfit_ratio.mean(axis=1).round(3).tolist(),
    }


def pictures(rows: list[tuple[str, np.ndarray, SoftModes, float]], path: Path) -> None:
    figure = Figure(figsize=(6.4, 2.1 * len(rows)), layout="constrained")
    for part, (name, volume, found, voxel) in zip(
        figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True
    ):
        part.suptitle(name, fontsize=8)
        draw_ends(part, LIGHT, volume, found.modes[0], found.amplitudes[0], voxel)
    figure.savefig(path, dpi=90)


def views_case(data: Path, out: Path) -> dict[str, Any]:
    """Sections 3.1 to 3.3, Figs. 1 to 15: where a map is uncertain depends on the views."""
    result: dict[str, Any] = {}
    rows = []
    maps = {"70S ribosome": ribosome(data), "EMD-1832": emd(data, "emd_1832.map.gz")}
    for molecule, (volume, voxel) in maps.items():
        for kind in ("polar density", "mixed", "uniform", "equatorial:15"):
            rng = np.random.default_rng(0)
            rotations = directions(kind, VIEWS, rng)
            found = soft_modes(volume, rotations, modes=4, noise_variance=noise_of(volume), rng=rng)
            total = np.abs(found.modes[0]).sum()
            sums = [float(np.abs(found.modes[0].sum(axis=axis)).sum() / total) for axis in range(3)]
            kept = {**numbers(found), "scf": round(coverage(rotations, SIZE).scf, 3)}
            result[f"{molecule}, {kind}"] = {**kept, "projection_z_y_x": np.round(sums, 3).tolist()}
            if kind != "mixed":
                rows.append((f"{molecule}, {kind}", volume, found, voxel))
    pictures(rows, out / "softmodes_views.png")
    return result


def defocus_case(data: Path, out: Path) -> dict[str, Any]:
    """Section 3.4, Figs. 16 to 21: three defoci; the softest values rise with defocus."""
    volume, voxel = ribosome(data)
    rotations = directions("mixed", 512, np.random.default_rng(0))
    result: dict[str, Any] = {}
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for value in (10000.0, 17000.0, 23000.0):
        one = np.ones(1)
        transfer = ctf(
            (SIZE, SIZE), voxel, defocus_u_angstrom=value * one, defocus_v_angstrom=value * one,
            defocus_angle_deg=0 * one, voltage_kv=300 * one, spherical_aberration_mm=2.0 * one,
            amplitude_contrast=0.1 * one, phase_shift_deg=0 * one,
        )  # fmt: skip
        found = soft_modes(volume, rotations, transfer, modes=7, noise_variance=noise_of(volume), iterations=100)
        result[f"{value:.0f} Å"] = numbers(found)
        left.plot(np.arange(SIZE // 2 + 1) / (SIZE * voxel), transfer[0, 0] ** 2, label=f"{value:.0f} Å")
        right.semilogy(np.arange(1, 8), found.eigenvalues, "o-", label=f"{value:.0f} Å")
    left.set(xlabel="frequency, 1/Å", ylabel="CTF²")
    right.set(xlabel="mode", ylabel="eigenvalue")
    right.legend(fontsize=7)
    figure.savefig(out / "softmodes_defocus.png", dpi=90)
    return result


def atoms(path: Path) -> np.ndarray:
    lines = [line for line in path.read_text().splitlines() if line.startswith("ATOM") and line[76:78].strip() != "H"]
    return np.array([[float(line[30:38]), float(line[38:46]), float(line[46:54])] for line in lines])


def path_case(data: Path, out: Path) -> dict[str, Any]:
    """Section 3.5, Fig. 22: adenylate kinase from open to closed; atoms move on straight lines after superposition."""
    from scipy.spatial.transform import Rotation

    first, last = (atoms(data / "maps" / "models" / f"adk_{name}.pdb") for name in ("open", "closed"))
    first = first - first.mean(axis=0)
    last = last - last.mean(axis=0)
    turn, _ = Rotation.align_vectors(first, last)
    last = turn.apply(last)
    voxel = 96.0 / SIZE
    frames = []
    for share in np.linspace(0, 1, 9):
        places = (1 - share) * first + share * last
        frames.append(splat_atoms(places, SIZE, voxel, sigma_angstrom=3.0))
    support = soft_ball(SIZE, SIZE / 2 - 1) >= 0.5
    rotations = directions("uniform", 512, np.random.default_rng(0))
    points = list(path_information(np.stack(frames), make_views(rotations, SIZE), support, images=512))
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([p.position for p in points], [p.known_pose_eigenvalue for p in points], "o-", label="poses known")
    axes.plot([p.position for p in points], [p.eigenvalue for p in points], "s-", label="poses free")
    axes.set(xlabel="path, 0 open, 1 closed", ylabel="information per image", ylim=(0, None))
    axes.legend(fontsize=7)
    figure.savefig(out / "softmodes_path.png", dpi=90)
    rmsd = float(np.sqrt(np.mean(np.sum((first - last) ** 2, axis=1))))
    return {"rmsd_angstrom": round(rmsd, 2), "points": [p._asdict() for p in points]}


def closed_case(data: Path, out: Path) -> dict[str, Any]:
    """Section 22, Figs. 24 and 25: pose errors by view; Schur complement in the poses over the closed forms."""
    from scipy.sparse.linalg import LinearOperator, cg

    del out
    result: dict[str, Any] = {}
    maps = {"70S ribosome": ribosome(data, 20)[0], "EMD-2479": emd(data, "emd_2479.map", 20)[0]}
    for name, volume in maps.items():
        for images in (512, 2048):
            size = len(volume)
            # a small molecule in a large box: the support hardly constrains what the map may follow
            small = np.asarray(fourier_resample_volume(volume, size // 2))
            padded = np.zeros((size,) * 3)
            padded[size // 4 : size // 4 + size // 2, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = small
            support = soft_ball(size, size / 2 - 1) >= 0.5
            rotations = random_rotations(images, np.random.default_rng(0))
            views = make_views(rotations, size)
            hessian = Hessian(padded, views, support, images=images, shifts=False, dense=False)
            _, tangents = slices_and_tangents(padded, views, shifts=False)
            fields, expected = closed_forms(padded, views)
            count = int(support.sum())
            operator = LinearOperator((count, count), matvec=hessian.known_pose)
            ratios = {}
            for kind, values in fields.items():
                local = np.einsum("jab,jb->ja", rotations, values)
                push = np.einsum("ja,jap->jp", local, tangents[:, :3])
                pull = hessian._back(push[None])[:, 0]
                solved, _ = cg(operator, pull, rtol=1e-5, maxiter=300)
                left = float(np.sum(np.abs(push) ** 2) - pull @ solved)
                ratios[kind] = round(left / expected[kind], 3)
                if kind == "longitudinal":
                    ratios["longitudinal, as printed"] = round(left / expected["printed"], 3)
            result[f"{name}, {images} views"] = ratios
    return result


def closed_forms(volume: np.ndarray, views: Any) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the two fields of turns in the map's frame, and their integrals over the views' own slices."""
    from napari_pickbias.softmodes.views import gradient_volumes, sample

    direction = views.rotations[:, 2]
    tilt, azimuth = np.arccos(direction[:, 2]), np.arctan2(direction[:, 1], direction[:, 0])
    meridian = np.cross([0, 0, 1.0], direction)
    meridian /= np.linalg.norm(meridian, axis=1)[:, None]
    fields = {
        "longitudinal": np.sin(2 * azimuth)[:, None] * np.array([0, 0, 1.0]),
        "latitudinal": np.sin(2 * tilt)[:, None] * meridian,
    }
    points = views.points
    gradient = sample(gradient_volumes(volume), points) * views.filters
    radius = np.linalg.norm(points, axis=0)
    height = np.divide(points[2], radius, out=np.ones_like(radius), where=radius > 0)
    ring = np.hypot(points[0], points[1])
    about = points[0] * gradient[1] - points[1] * gradient[0]
    down = np.divide(
        points[2] * (points[0] * gradient[0] + points[1] * gradient[1]) - ring**2 * gradient[2],
        ring, out=np.zeros_like(about), where=ring > 0,
    )  # fmt: skip
    sine = np.sqrt(np.clip(1 - height**2, 1e-12, None))
    u = (1 - np.abs(height)) / (1 + np.abs(height))
    around = np.abs(about) ** 2
    expected = {
        "longitudinal": float(np.sum(0.5 * (1 - u**2) * around)),
        "printed": float(np.sum(0.5 * (1 + u) * around)),  # equation 143: r^2 = eps^2 (1 + u)
        "latitudinal": float(np.sum(0.5 * (sine * height) ** 2 * (np.abs(down) ** 2 + around / sine**2))),
    }
    return fields, expected


def equator_case(data: Path, out: Path) -> dict[str, Any]:
    """Section 24.1, Figs. 27 to 34: maps that differ more and more, with the same equatorial projections.

    The azimuths ``a`` of the views are re-labelled ``a + e sin 2a``, one-to-one for ``e < 1/2``, and the map is
    reconstructed from the very same images. The misfit is what the finite support leaves.
    """
    from scipy.sparse.linalg import LinearOperator, cg
    from scipy.spatial.transform import Rotation

    volume, _ = ribosome(data)
    rng = np.random.default_rng(0)
    rotations = directions("equatorial:0.001", 512, rng)
    found = soft_modes(volume, rotations, modes=4, noise_variance=noise_of(volume), rng=rng, iterations=150)
    images, _ = slices_and_tangents(volume, make_views(rotations, SIZE))
    energy = float(np.sum(np.abs(images) ** 2))
    # The molecule fills its box: a support of the whole box lets the other maps spread.
    support = soft_ball(SIZE, SIZE / 2 - 0.5) >= 0.5
    inside = np.where(support, volume, 0)
    metric = riesz_metric(support)
    tops = make_views(directions("polar:10", 128, rng), SIZE)
    first_top, _ = slices_and_tangents(volume, tops)
    azimuth = np.arctan2(rotations[:, 2, 1], rotations[:, 2, 0])
    family, shown = [], []
    for share in (0.0, 0.1, 0.2, 0.3, 0.4):
        turns = Rotation.from_rotvec(np.outer(share * np.sin(2 * azimuth), [0, 0, 1])).as_matrix()
        moved = rotations @ turns.transpose(0, 2, 1)
        hessian = Hessian(inside, make_views(moved, SIZE), support, images=len(moved), dense=False)
        count = int(support.sum())
        right = hessian._back(images[None])[:, 0]
        solved, _ = cg(LinearOperator((count, count), matvec=hessian.known_pose), right, rtol=1e-4, maxiter=200)
        other = hessian.embed(solved)[0]
        again, _ = slices_and_tangents(other, make_views(moved, SIZE))
        held, _ = slices_and_tangents(other, make_views(rotations, SIZE))
        top, _ = slices_and_tangents(other, tops)
        step = (other - inside)[support]
        family.append(
            {
                "relabelling": share,
                "change_of_the_map": round(float(np.sqrt(step @ metric(step) / mean_energy(volume, support))), 4),
                "misfit_relabelled": round(float(np.sqrt(np.sum(np.abs(again - images) ** 2) / energy)), 4),
                "misfit_poses_held": round(float(np.sqrt(np.sum(np.abs(held - images) ** 2) / energy)), 4),
                "polar_projections_apart": round(
                    float(np.sqrt(np.sum(np.abs(top - first_top) ** 2) / np.sum(np.abs(first_top) ** 2))), 4
                ),
            }
        )
        shown.append((share, other))
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    grid = figure.subplots(2, len(shown))
    for column, (share, other) in enumerate(shown):
        surface = isosurface(other, map_level(volume), 120)
        picture = np.where(np.isfinite(surface.depth), surface.shade, np.nan)
        grid[0, column].imshow(picture, origin="lower", cmap="gray", vmin=0, vmax=1)
        grid[0, column].set_title(f"e = {share:g}", fontsize=8)
        grid[1, column].imshow(other.sum(axis=0), origin="lower", cmap="gray")
        for row in (0, 1):
            grid[row, column].set_axis_off()
    figure.savefig(out / "softmodes_equator.png", dpi=90)
    return {**numbers(found), "family": family}


def split_case(data: Path, out: Path) -> dict[str, Any]:
    """Section 24.3, Figs. 39 to 43: one molecule's data cut in two by view; each half fits a wrong map as well."""
    volume, voxel = ribosome(data)
    rng = np.random.default_rng(0)
    halves = {"polar": directions("polar:30", 512, rng), "equatorial": directions("equatorial:15", 512, rng)}
    whole = np.concatenate(list(halves.values()))
    support = soft_ball(SIZE, SIZE / 2 - 1) >= 0.5
    norm = np.sqrt(mean_energy(volume, support))
    variance = noise_of(volume)
    result: dict[str, Any] = {"all": numbers(soft_modes(volume, whole, modes=3, noise_variance=variance, rng=rng))}
    rows = []
    wrong = {}
    for name, rotations in halves.items():
        found = soft_modes(volume, rotations, modes=3, noise_variance=variance, rng=rng)
        wrong[name] = volume + 0.1 * norm * found.modes[0]
        result[name] = numbers(found)
        rows.append((f"{name} half", volume, found, voxel))
    for name, rotations in {**halves, "all": whole}.items():
        views = make_views(rotations, SIZE)
        images, _ = slices_and_tangents(volume, views)
        losses = {}
        for other, changed in wrong.items():
            fitted = realign(changed, views, images, shifts=True, iterations=10)
            losses[f"{other} half's map"] = round(float(fitted.misfit.sum() / variance), 2)
        result[name]["loss_of_log_likelihood_at_10_percent"] = losses
    hessians = [
        Hessian(wrong[name], make_views(halves[name], SIZE), support, images=512, dense=False) for name in halves
    ]
    step = (wrong["equatorial"] - wrong["polar"])[support]
    joint = joint_information(hessians[0], hessians[1], step)
    result["one_map_for_both"] = {
        "share_of_ideal": round(joint.share, 4),
        "loss_of_log_likelihood": round(0.5 * joint.value / variance, 2),
    }
    mixed = [make_views(whole[start::2], SIZE) for start in (0, 1)]
    control = [Hessian(wrong[n], v, support, images=512, dense=False) for n, v in zip(halves, mixed, strict=True)]
    joint = joint_information(control[0], control[1], step)
    result["one_map_for_both_if_split_at_random"] = {
        "share_of_ideal": round(joint.share, 4),
        "loss_of_log_likelihood": round(0.5 * joint.value / variance, 2),
    }
    pictures(rows, out / "softmodes_split.png")
    return result


CASES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "views": views_case,
    "defocus": defocus_case,
    "path": path_case,
    "closed": closed_case,
    "equator": equator_case,
    "split": split_case,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    chosen = parser.parse_args()
    for name in chosen.cases or CASES:
        result = CASES[name](chosen.data, chosen.out)
        (chosen.out / f"softmodes_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result))


if __name__ == "__main__":
    main()
