"""A small CryoSPARC project as a server leaves it on disk: an extraction job with main and passthrough file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from napari_pickbias.records.mrc import write_mrc

N = 12
BOX = 8
HEIGHT, WIDTH = 100, 140
MICROGRAPHS = ["000000000000000000007_é_one.mrc", "000000000000000000008_two.mrc"]


@dataclass
class Project:
    root: Path
    job: Path
    main: np.ndarray
    passthrough: np.ndarray
    pixels: np.ndarray
    """Of all rows, as stored (before ``blob/sign``)."""


def table(n: int, columns: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.empty(n, [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def save(path: Path, rows: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        np.save(stream, rows, allow_pickle=False)
    return path


def csg(slots: dict[str, str], kind: str = "particle", count: int = N) -> str:
    results = {slot: {"metafile": file, "num_items": count, "type": f"{kind}.{slot}"} for slot, file in slots.items()}
    group = {"description": "Extracted", "name": "particles", "title": "Particles", "type": kind}
    return yaml.safe_dump({"created": "2024-01-01", "group": group, "results": results, "version": "v4.7.1"})


def build(root: Path) -> Project:
    rng = np.random.default_rng(5)
    job = root / "J30"
    uid = rng.integers(1, 1 << 63, N, np.uint64) * np.uint64(2) + np.uint64(1)  # above the range of int64
    which = np.arange(N) % 2
    stacks = [f"J30/extract/{m.removesuffix('.mrc')}_particles.mrc" for m in MICROGRAPHS]
    pixels = rng.normal(size=(N, BOX, BOX)).astype(np.float32)
    (job / "extract").mkdir(parents=True)
    for m, stack in enumerate(stacks):
        write_mrc(root / stack, pixels[which == m], 1.5, stack=True)
    pose = rng.normal(size=(N, 3))
    pose *= (np.linspace(0.1, 3.7, N) / np.linalg.norm(pose, axis=1))[:, None]  # beyond π, as CryoSPARC writes
    f4 = np.float32
    main = table(
        N,
        {
            "uid": uid,
            "blob/path": np.array([stacks[w].encode() for w in which]),
            "blob/idx": (np.arange(N) // 2).astype("u4"),
            "blob/shape": np.full((N, 2), BOX, "u4"),
            "blob/psize_A": np.full(N, 1.5, f4),
            "blob/sign": np.where(np.arange(N) < 3, 1, -1).astype(f4),
            "blob/import_sig": rng.integers(0, 1 << 60, N, np.uint64),
            "ctf/type": np.full(N, b"spline"),
            "ctf/exp_group_id": np.where(which == 0, 23, 25).astype("u4"),
            "ctf/accel_kv": np.full(N, 300, f4),
            "ctf/cs_mm": np.full(N, 2.7, f4),
            "ctf/amp_contrast": np.full(N, 0.1, f4),
            "ctf/df1_A": rng.uniform(8e3, 2e4, N).astype(f4),
            "ctf/df2_A": rng.uniform(8e3, 2e4, N).astype(f4),
            "ctf/df_angle_rad": rng.uniform(-3, 6, N).astype(f4),
            "ctf/phase_shift_rad": rng.uniform(0, 1, N).astype(f4),
            "ctf/scale": np.ones(N, f4),
            "ctf/scale_const": np.zeros(N, f4),
            "ctf/shift_A": np.zeros((N, 2), f4),
            "ctf/tilt_A": np.zeros((N, 2), f4),
            "ctf/trefoil_A": np.zeros((N, 2), f4),
            "ctf/tetra_A": np.zeros((N, 4), f4),
            "ctf/anisomag": np.zeros((N, 4), f4),
            "ctf/bfactor": np.zeros(N, f4),
            "alignments3D/split": (np.arange(N) % 3 > 0).astype("u4"),
            "alignments3D/shift": rng.normal(0, 3, (N, 2)).astype(f4),
            "alignments3D/pose": pose.astype(f4),
            "alignments3D/psize_A": np.full(N, 3.0, f4),  # the refinement was binned by 2
            "alignments3D/class": np.zeros(N, "u4"),
        },
    )
    passthrough = table(
        N,
        {
            "uid": uid,
            "location/micrograph_uid": np.where(which == 0, 7, 8).astype("u8"),
            "location/exp_group_id": main["ctf/exp_group_id"],
            "location/micrograph_path": np.array([f"J14/mics/{MICROGRAPHS[w]}".encode() for w in which]),
            "location/micrograph_shape": np.tile(np.array([HEIGHT, WIDTH], "u4"), (N, 1)),
            "location/center_x_frac": rng.uniform(0.2, 0.8, N).astype(f4),
            "location/center_y_frac": rng.uniform(0.2, 0.8, N).astype(f4),
            "location/min_dist_A": np.full(N, 100, f4),
        },
    )
    passthrough = passthrough[rng.permutation(N)]  # rows belong together by uid, not by order
    save(job / "extracted_particles.cs", main)
    save(job / "J30_passthrough_particles.cs", passthrough)
    return Project(root, job, main, passthrough, pixels)


SLOTS = {
    "blob": ">extracted_particles.cs",
    "ctf": ">extracted_particles.cs",
    "alignments3D": ">extracted_particles.cs",
    "location": ">J30_passthrough_particles.cs",
}


def job_json(version: int, extra: bool = False) -> str:
    """``job.json`` as 4.x and 5.x lay it out; with an earlier version of the main file."""
    results = []
    for slot, file in SLOTS.items():
        inherited = slot == "location"
        name = f"J30/{file.removeprefix('>')}"
        metafiles = [name] if inherited else ["J30/J30_000_particles.cs", name]
        results.append((slot, metafiles, inherited))
    if version == 5:
        outputs = {
            "particles": {
                "type": "particle",
                "title": "Particles extracted",
                "results": [
                    {"name": s, "dtype": s, "versions": [0], "metafiles": m, "num_items": [N], "passthrough": p}
                    for s, m, p in results
                ],
            },
            "micrographs": {"type": "exposure", "results": []},
        }
        if extra:
            outputs["particles_incomplete"] = outputs.pop("particles")
            outputs["particles_rejected"] = {"type": "particle", "results": outputs["particles_incomplete"]["results"]}
        return json.dumps({"uid": "J30", "spec": {"type": "extract", "outputs": outputs}, "version": "v5.0.3"})
    rows = [
        {
            "group_name": "particles",
            "name": s,
            "type": f"particle.{s}",
            "versions": [0],
            "metafiles": m,
            "num_items": [N],
            "passthrough": p,
        }
        for s, m, p in results
    ]
    rows.append({"group_name": "micrographs", "name": "ctf", "type": "exposure.ctf", "metafiles": ["J30/m.cs"]})
    if extra:
        rows += [{**r, "group_name": "particles_rejected"} for r in rows[:4]]
        rows = [{**r, "group_name": r["group_name"].replace("particles", "p", 1)} for r in rows]
    groups = [{"name": "particles", "title": "Particles extracted"}]
    return json.dumps({"type": "extract", "uid": "J30", "output_results": rows, "output_result_groups": groups})


@pytest.fixture
def project(tmp_path) -> Project:
    """Without ``.csg`` and ``job.json``: the files are found by their names."""
    return build(tmp_path / "CS-project")


@pytest.fixture
def grouped(project) -> Project:
    """With the ``.csg`` of a job folder."""
    (project.job / "J30_particles.csg").write_text(csg(SLOTS), encoding="utf-8")
    return project


@pytest.fixture
def write_csg() -> Callable[..., str]:
    return csg


@pytest.fixture
def write_job_json() -> Callable[..., str]:
    return job_json


@pytest.fixture
def make_table() -> Callable[..., np.ndarray]:
    return table


@pytest.fixture
def save_cs() -> Callable[[Path, np.ndarray], Path]:
    return save
