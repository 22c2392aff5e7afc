"""The files of a small CryoSPARC project, for the stub servers of either release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support import blob_stack, write_stack

ARGUMENTS = ["--radius", "36", "--working-box", "21", "--threads", "1", "--fit-images", "200"]


def table(columns: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.empty(len(columns["uid"]), [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def make_project(root: Path) -> Path:
    """Write the files of one extraction job, J2: the main file has images, the passthrough file locations."""
    images = blob_stack(150, 25)[0]
    n, stack = len(images), "J2/extract/000000000000000000007_é_particles.mrc"
    write_stack(root / stack, images)
    uid = np.random.default_rng(1).integers(1 << 63, 1 << 64, n, np.uint64)
    f4 = np.float32
    main = table(
        {
            "uid": uid,
            "blob/path": np.array([stack.encode()] * n),
            "blob/idx": np.arange(n, dtype="u4"),
            "blob/shape": np.full((n, 2), images.shape[1], "u4"),
            "blob/psize_A": np.full(n, 4, f4),
            "blob/sign": np.ones(n, f4),
            "blob/import_sig": np.arange(n, dtype="u8"),
        }
    )
    passthrough = table(
        {
            "uid": uid,
            "location/micrograph_uid": np.full(n, 7, "u8"),
            "location/exp_group_id": np.full(n, 3, "u4"),
            "location/micrograph_path": np.array(["J1/mics/é.mrc".encode()] * n),
            "location/micrograph_shape": np.tile(np.array([4000, 4000], "u4"), (n, 1)),
            "location/center_x_frac": np.linspace(0.1, 0.9, n).astype(f4),
            "location/center_y_frac": np.linspace(0.9, 0.1, n).astype(f4),
        }
    )[::-1]
    for name, rows in (("extracted_particles.cs", main), ("J2_passthrough_particles.cs", passthrough)):
        with (root / "J2" / name).open("wb") as stream:
            np.save(stream, rows)
    return root
