"""The napari door's tests: small particle sets, and a plain word where no window can be drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from napari_pickbias.records import StackWriter, write_mrc
from napari_pickbias.runs import outliers as outlier_runs

BOX, PIXEL_SIZE, RADIUS = 32, 4.0, 40.0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gui") is None:
        return
    if os.environ.get("QT_QPA_PLATFORM", "").startswith(("offscreen", "minimal")):
        pytest.fail(
            "QT_QPA_PLATFORM=offscreen draws nothing, so these tests would prove nothing: use xcb under xvfb-run",
            pytrace=False,
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        pytest.skip("no display: run under xvfb-run with QT_QPA_PLATFORM=xcb")


class ParticleFiles(NamedTuple):
    star: Path
    stack: Path
    images: np.ndarray
    pixel_size: float = PIXEL_SIZE
    radius: float = RADIUS


def _blob(shift_y: float = 0.0, shift_x: float = 0.0, box: int = BOX) -> np.ndarray:
    """A particle of radius 10 px: a soft disc with a denser core."""
    y, x = np.mgrid[:box, :box] - box // 2
    r = np.hypot(y - shift_y, x - shift_x)
    return 1 / (1 + np.exp((r - 8) / 0.8)) + 0.8 * np.exp(-((r / 4) ** 2))


def _make_images(rng: np.random.Generator, count: int = 400) -> np.ndarray:
    """Half of them centred particles, then pure noise, then particles cut by the box's edge."""
    noise = rng.normal(0, 1.0, (count, BOX, BOX))
    for i in range(count // 2):
        noise[i] += _blob(*rng.normal(0, 1, 2))
    for i in range(3 * count // 4, count):
        noise[i] += _blob(9, 4)
    return noise.astype(np.float32)


def _write_stack(path: Path, images: np.ndarray, pixel_size: float | None = PIXEL_SIZE) -> Path:
    with StackWriter(path, images.shape, pixel_size) as out:
        out.append(images)
    return path


def _write_star(path: Path, stacks: list[tuple[str, int, int, float]]) -> Path:
    """A RELION 3.1 particle file: each stack (name, images, box, pixel size) is an optics group."""
    lines = ["# version 30001", "", "data_optics", "", "loop_"]
    labels = ["OpticsGroupName", "OpticsGroup", "ImagePixelSize", "ImageSize", "ImageDimensionality"]
    lines += [f"_rln{name} #{i}" for i, name in enumerate(labels, 1)]
    lines += [f"group{g} {g} {pixel} {box} 2" for g, (_, _, box, pixel) in enumerate(stacks, 1)]
    lines += ["", "", "# version 30001", "", "data_particles", "", "loop_"]
    labels = ["ImageName", "MicrographName", "CoordinateX", "CoordinateY", "OpticsGroup"]
    lines += [f"_rln{name} #{i}" for i, name in enumerate(labels, 1)]
    for g, (name, count, _, _) in enumerate(stacks, 1):
        lines += [f"{i + 1:06d}@{name} mic{i % 3}.mrc {10 * i} {20 * i} {g}" for i in range(count)]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


@pytest.fixture
def particle_files(tmp_path: Path) -> ParticleFiles:
    """400 particles in a stack, and the STAR file that lists them."""
    images = _make_images(np.random.default_rng(7))
    stack = _write_stack(tmp_path / "particles.mrcs", images)
    star = _write_star(tmp_path / "particles.star", [(str(stack), len(images), BOX, PIXEL_SIZE)])
    return ParticleFiles(star, stack, images)


class PickFiles(NamedTuple):
    """Micrographs with discs, and a list of picks on discs (score about 9) and on nothing (about 4)."""

    star: Path
    xy: np.ndarray
    score: np.ndarray
    micrograph: np.ndarray
    micrographs: list[Path]
    pixel_size: float = 2.0


MICROGRAPHS, PICKS, SIZE = 4, 20, 160


@pytest.fixture
def pick_files(tmp_path: Path) -> PickFiles:
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:16, :16] - 7.5
    disc = 4.0 * (np.hypot(y, x) < 6)
    rows, paths = [], []
    (tmp_path / "mics").mkdir()
    for number in range(MICROGRAPHS):
        image = rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32)
        for k in range(PICKS):
            cx, cy = rng.integers(20, SIZE - 20, 2)
            if k % 2:
                image[cy - 8 : cy + 8, cx - 8 : cx + 8] += disc
            rows.append((number, cx, cy, (9.0 if k % 2 else 4.0) + rng.uniform(-1, 1)))
        paths.append(write_mrc(tmp_path / "mics" / f"m{number}.mrc", image, 2.0))
    labels = ["MicrographName", "CoordinateX", "CoordinateY", "AutopickFigureOfMerit"]
    lines = ["# version 30001", "", "data_optics", "", "loop_", "_rlnOpticsGroup #1", "_rlnMicrographPixelSize #2"]
    lines += ["1 2.0", "", "# version 30001", "", "data_particles", "", "loop_"]
    lines += [*(f"_rln{name} #{i}" for i, name in enumerate(labels, 1)), "_hisNote #5", "_rlnOpticsGroup #6"]
    lines += [f'mics/m{m}.mrc {cx} {cy} {s:.4f} "by {m}" 1' for m, cx, cy, s in rows]
    star = tmp_path / "picks.star"
    star.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    found = np.array(rows)
    return PickFiles(star, found[:, 1:3], np.round(found[:, 3], 4), found[:, 0].astype(int), paths)


@pytest.fixture
def write_stack() -> Callable[..., Path]:
    """``(path, images, pixel size) -> path``."""
    return _write_stack


@pytest.fixture
def write_star() -> Callable[[Path, list[tuple[str, int, int, float]]], Path]:
    """``(path, [(stack, images, box, pixel size) of each optics group]) -> path``."""
    return _write_star


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of one word: drawing the real one takes longer than everything else."""

    def write(result: object, summary: object, directory: Path, report_name: str = "report") -> dict[str, Path]:
        (directory / "report.html").write_text("report", encoding="utf-8")
        return {"html": directory / "report.html"}

    monkeypatch.setattr(outlier_runs, "write_outlier_report", write)
