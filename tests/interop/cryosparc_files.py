"""The files of a small CryoSPARC project, for the stub servers of either release."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
from support import blob_stack, write_stack

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import random_euler
from pickbias_cryosparc.poses import rotation_vectors_from_euler

_IMAGES = [("path", "O"), ("idx", "u4"), ("shape", "2u4"), ("psize_A", "f4")]
_MAP = [("path", "O"), ("shape", "3u4"), ("psize_A", "f4")]
FIELDS = {
    ("particle", "blob"): [*_IMAGES, ("sign", "f4"), ("import_sig", "u8")],
    ("particle", "alignments3D"): [("shift", "2f4"), ("pose", "3f4"), ("psize_A", "f4")],
    ("particle", "components"): [("component", "u4"), ("value", "f4")],
    ("particle", "ctf"): [("accel_kv", "f4")],
    ("particle", "location"): [
        ("micrograph_uid", "u8"),
        ("exp_group_id", "u4"),
        ("micrograph_path", "O"),
        ("micrograph_shape", "2u4"),
        ("micrograph_psize_A", "f4"),
        ("center_x_frac", "f4"),
        ("center_y_frac", "f4"),
        ("min_dist_A", "f4"),
    ],
    ("particle", "pick_stats"): [("ncc_score", "f4"), ("power", "f4"), ("template_idx", "u4"), ("angle_rad", "f4")],
    ("exposure", "micrograph_blob"): _IMAGES,
    ("exposure", "ctf"): [("accel_kv", "f4")],
    ("exposure", "mscope_params"): [("exp_group_id", "u4")],
    ("template", "blob"): _IMAGES,
    ("volume", "blob"): _MAP,
    ("mask", "blob"): _MAP,
}
"""The fields that the servers want in a slot, by the type of the group and that of the slot."""
PASSTHROUGH = "_passthrough_"
LAYOUT = {
    "J2": {
        "particles": (
            "particle",
            {"blob": "J2/extracted_particles.cs", "location": "J2/J2_passthrough_particles.cs"},
        ),
        "micrographs": ("exposure", {}),
    },
    "J4": {
        "particles": (
            "particle",
            {"alignments3D": "J4/J4_particles.cs", "blob": "J4/J4_passthrough_particles.cs"},
        ),
        "volume": (
            "volume",
            {"map:blob": "J4/J4_volume.cs", "map_half_A:blob": "J4/J4_volume.cs", "map_half_B:blob": "J4/J4_volume.cs"},
        ),
        "mask": ("mask", {"mask:blob": "J4/J4_mask.cs"}),
    },
    "J6": {
        "exposures": (
            "exposure",
            {
                "micrograph_blob": "J6/exposures.cs",
                "ctf": "J6/exposures.cs",
                "mscope_params": "J6/J6_passthrough_exposures.cs",
            },
        ),
        "templates_selected": ("template", {"blob": "J6/templates.cs"}),
        "volume": ("volume", {"map:blob": "J6/volume.cs"}),
    },
}
"""The outputs of each job: type, and slot to file."""
ARGUMENTS = ["--radius", "36", "--working-box", "21", "--threads", "1", "--fit-images", "200"]


def table(columns: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.empty(len(columns["uid"]), [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def save(path: Path, columns: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        np.save(stream, table(columns))


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


def make_refinement(root: Path, count: int = 60, box: int = 12) -> Path:
    """Write the files of a refinement, J4: particles with poses (their stack is not there), map, half maps, mask."""
    rng = np.random.default_rng(2)
    uid = rng.integers(1 << 63, 1 << 64, count, np.uint64)
    f4 = np.float32
    save(
        root / "J4/J4_particles.cs",
        {
            "uid": uid,
            "alignments3D/pose": rotation_vectors_from_euler(random_euler(count, rng)).astype(f4),
            "alignments3D/shift": np.zeros((count, 2), f4),
            "alignments3D/psize_A": np.full(count, 4, f4),
        },
    )
    inherited = {
        "uid": uid,
        "blob/path": np.array([b"J2/extract/none.mrc"] * count),
        "blob/idx": np.arange(count, dtype="u4"),
        "blob/shape": np.full((count, 2), box, "u4"),
        "blob/psize_A": np.full(count, 4, f4),
        "blob/sign": np.ones(count, f4),
        "blob/import_sig": np.arange(count, dtype="u8"),
    }
    save(root / "J4/J4_passthrough_particles.cs", {name: values[::-1] for name, values in inherited.items()})
    density = blob_volume(phantom(3.4), box)
    noise = 0.05 * density.std() * rng.normal(size=(2, box, box, box))
    maps = {"map": density, "map_half_A": density + noise[0], "map_half_B": density + noise[1], "mask": density * 0 + 1}
    row: dict[str, np.ndarray] = {"uid": np.array([7], "u8")}
    for name, values in maps.items():
        file = f"J4/J4_{name}.mrc"
        mrcfile.write(root / file, values.astype(f4), voxel_size=4)
        place = {f"{name}/path": np.array([file.encode()]), f"{name}/shape": np.full((1, 3), box, "u4")}
        row |= place | {f"{name}/psize_A": np.full(1, 4, f4)}
    save(root / "J4/J4_volume.cs", {k: v for k, v in row.items() if not k.startswith("mask")})
    save(root / "J4/J4_mask.cs", {k: v for k, v in row.items() if k.startswith(("mask", "uid"))})
    return root


def make_micrographs(
    root: Path, images: np.ndarray, density: np.ndarray, templates: np.ndarray, pixel_size: float
) -> Path:
    """Write the files of J6: micrographs with a CTF, and what to look for: every other image of a stack."""
    rng, f4 = np.random.default_rng(3), np.float32
    uid = rng.integers(1 << 63, 1 << 64, len(images), np.uint64)
    names = [f"J1/motioncorrected/{u:021d}_mic_{i}.mrc" for i, u in enumerate(uid.tolist())]
    (root / "J1/motioncorrected").mkdir(parents=True)
    (root / "J6").mkdir()
    for name, image in zip(names, images, strict=True):
        mrcfile.write(root / name, image.astype(f4), voxel_size=pixel_size)
    n = len(images)
    optics = {"accel_kv": 300, "cs_mm": 2.7, "amp_contrast": 0.1, "df1_A": 15000, "df2_A": 15000, "df_angle_rad": 0}
    optics["phase_shift_rad"] = 0
    save(
        root / "J6/exposures.cs",
        {
            "uid": uid,
            "micrograph_blob/path": np.array([name.encode() for name in names]),
            "micrograph_blob/idx": np.zeros(n, "u4"),
            "micrograph_blob/shape": np.array([image.shape for image in images], "u4"),
            "micrograph_blob/psize_A": np.full(n, pixel_size, f4),
            **{f"ctf/{name}": np.full(n, value, f4) for name, value in optics.items()},
        },
    )
    inherited = {"uid": uid[::-1], "mscope_params/exp_group_id": np.arange(n, dtype="u4")[::-1] + 20}
    save(root / "J6/J6_passthrough_exposures.cs", inherited)
    stack = np.zeros((2 * len(templates), *templates.shape[1:]), f4)
    stack[1::2] = templates
    write_stack(root / "J6/class_averages.mrc", stack, pixel_size)
    m = len(templates)
    save(
        root / "J6/templates.cs",
        {
            "uid": np.arange(1, m + 1, dtype="u8"),
            "blob/path": np.array([b"J6/class_averages.mrc"] * m),
            "blob/idx": np.arange(1, 2 * m, 2, dtype="u4"),
            "blob/shape": np.array([templates.shape[1:]] * m, "u4"),
            "blob/psize_A": np.full(m, pixel_size, f4),
        },
    )
    mrcfile.write(root / "J6/map.mrc", density.astype(f4), voxel_size=pixel_size)
    row = {
        "uid": np.array([7], "u8"),
        "map/path": np.array([b"J6/map.mrc"]),
        "map/shape": np.array([density.shape], "u4"),
    }
    save(root / "J6/volume.cs", row | {"map/psize_A": np.full(1, pixel_size, f4)})
    return root
