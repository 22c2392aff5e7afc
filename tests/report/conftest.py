"""Results of outlier removal made by hand: reports are tested without any detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_pickbias.jobs.outlier_groups import WorkingGroup
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.outlier_stream import ChunkSums
from napari_pickbias.jobs.outliers import Example, GroupResult, OutlierResult
from napari_pickbias.outliers.verdicts import COLUMNS, REASONS

BOX, PIXEL, RADIUS_PX = 33, 4.0, 8.0
SCORES = [name for name, kind in COLUMNS.items() if np.issubdtype(kind, np.floating)]


def blob_images(count: int, amplitude: float, rng: np.random.Generator, box: int = BOX) -> np.ndarray:
    """Gaussian blobs of the given amplitude at the box centre, in white noise of variance 1."""
    y, x = np.mgrid[:box, :box] - box // 2
    blob = amplitude * np.exp(-(y**2 + x**2) / (2 * (RADIUS_PX / 2) ** 2))
    return (blob + rng.standard_normal((count, box, box))).astype(np.float32)


def sums_of(images: np.ndarray) -> ChunkSums:
    """As ``jobs.outlier_stream`` forms them."""
    spectrum = np.fft.rfft2(images - images.mean(axis=(1, 2), keepdims=True))
    return ChunkSums(len(images), images.sum(axis=0, dtype=np.float64), (np.abs(spectrum) ** 2).sum(axis=0))


def _group(name: str, rows: np.ndarray, calibrated: bool, e0: float) -> GroupResult:
    geometry = WorkingGroup(name, rows, 64, PIXEL * BOX / 64, BOX, PIXEL, RADIUS_PX, flip=True)
    radius = np.arange(12.0)
    summary: dict[str, Any] = {
        "c_noise": 2.5,
        "pi": (0.7, 0.15, 0.1, 0.05),
        "n_fit": len(rows),
        "template_radius_px": radius,
        "template": np.exp(-((radius / 4) ** 2)),
        "noise_frequency": np.arange(34) / 66,
        "noise_power": 2 / (1 + np.arange(34) / 10),
    }
    if not calibrated:
        return GroupResult(geometry, -1, None, {"stack_mean": 0.1}, {})
    return GroupResult(geometry, 1, e0, summary, {})


@pytest.fixture(scope="session")
def make_result() -> Callable[..., OutlierResult]:
    """Return a function that builds a result from the number of particles of each verdict."""

    def make(
        counts: Sequence[int] = (120, 30, 20, 10),
        *,
        method: str = "calibrated",
        micrographs: int = 8,
        groups: int = 1,
        examples: int = 2,
        e0: float = 20.0,
        warnings: Sequence[str] = (),
        finite: bool = True,
        seed: int = 0,
    ) -> OutlierResult:
        rng = np.random.default_rng(seed)
        codes = rng.permutation(np.repeat(np.arange(4), counts)).astype(np.int8)
        n = len(codes)
        columns: dict[str, Any] = {"keep": codes == 0}
        columns |= {name: np.full(n, np.nan, np.float32) for name in SCORES}
        if method == "calibrated":
            center = np.array([8.0, -3.0, 6.0, 5.0])[codes]
            for name in ("score", "log_odds_noise", "log_odds_partial", "log_odds_multiple"):
                columns[name] = (center + rng.normal(0, 2, n)).astype(np.float32)
            columns["p_value"] = (rng.integers(1, 8001, n) / 8001).astype(np.float32)
        columns["center_y_px"] = rng.normal(0, 1, n).astype(np.float32)
        columns["center_x_px"] = rng.normal(0, 1, n).astype(np.float32)
        columns["second_y_px"] = np.full(n, 9, np.float32)
        columns["second_x_px"] = np.full(n, -7, np.float32)
        table = pd.DataFrame({k: v for k, v in columns.items() if not k.endswith("_px")})
        table["reason"] = pd.Categorical.from_codes(codes, categories=list(REASONS))
        if micrographs:
            names = np.array([f"Movies/mic_{i:04d}.mrc" for i in range(micrographs)])
            table.insert(0, "micrograph", names[rng.integers(0, micrographs, n)])
        parts = np.array_split(np.arange(n), groups)
        results = [_group(f"optics{i + 1}", rows, method == "calibrated", e0 + i) for i, rows in enumerate(parts)]
        shown: list[Example] = []
        for group in results:
            for code, reason in enumerate(REASONS):
                members = group.group.rows[codes[group.group.rows] == code]
                if not len(members):
                    continue
                images = blob_images(len(members), (1.5, 0.0, 0.5, 1.0)[code], rng)
                if finite:
                    group.sums[reason] = sums_of(images)
                else:
                    images[:] = np.nan
                for row, image in zip(members[:examples], images, strict=False):
                    values = {name: columns[name][row].item() for name in columns}
                    shown.append(Example(int(row), reason, image, PIXEL, values))
        parameters = OutlierParameters(method=method, radius=RADIUS_PX * PIXEL, false_keep_rate=0.02)
        fdr = 0.034 if method == "calibrated" and e0 >= 8 and counts[0] else None
        return OutlierResult(parameters, table, results, list(warnings), fdr, shown)

    return make


@pytest.fixture(scope="session")
def make_summary() -> Callable[..., dict[str, Any]]:
    """Return a function that builds what ``summary.json`` would hold."""

    def make(result: OutlierResult, path: str = "Extract/job012/particles.star") -> dict[str, Any]:
        counts = result.counts
        e0 = [group.e0 for group in result.groups if group.e0 is not None]
        return {
            "tool": "pickbias outliers",
            "version": "9.8.7",
            "parameters": result.parameters.model_dump(),
            "inputs": [
                {"path": path, "size": 345345, "sha256": "ab12" * 16},
                {"path": "Extract/job012/stack.mrcs", "size": 123456789, "mtime": 1.7e9},
            ],
            "results": {
                "particles": len(result.table),
                "kept": counts["kept"],
                "rejected": len(result.table) - counts["kept"],
                "rejected_by_reason": {reason: counts[reason] for reason in REASONS[1:]},
                "false_keep_rate": result.parameters.false_keep_rate,
                "expected_fdr": result.expected_fdr,
                "e0": min(e0) if e0 else None,
                "warnings": result.warnings,
                "images_per_second": 4321.5,
            },
            "seconds": {"read": 1.234, "judge": 56.789},
            "peak_memory_mb": 987.6,
        }

    return make
