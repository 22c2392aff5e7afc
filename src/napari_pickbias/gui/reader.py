"""Reader: particle files of any pipeline as lazy, scaled image stacks. No Qt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.gui.particle_stack import ParticleStack
from napari_pickbias.gui.preferences import preference
from napari_pickbias.records import MemoryImages, Particles, open_particles
from napari_pickbias.records.pick_tables import open_picks

LayerData = tuple[Any, dict[str, Any], str]

_IMAGE_LABEL = re.compile(rb"^[ \t]*_rlnImageName\b", re.MULTILINE)
_TOMOGRAPHY_LABEL = re.compile(rb"^[ \t]*_rln(Tomo\w+|CoordinateZ|CtfImage)\b", re.MULTILINE)
"""Columns of subtomograms and tilt series, whose images are no single particles."""
_LOOKED_AT = 1 << 22
"""Bytes of a STAR in which the particle table's header must begin; only thousands of optics groups come before it."""
_TABLES = (".star", ".cs", ".csg")
_SAMPLE = 64
"""Images from which the contrast limits are taken."""


def get_particle_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader of particle files, or None where ``path`` holds no particle images.

    Many STAR files hold picks, micrographs, classes, optimiser states or subtomograms: those are left to other readers.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return read_particles if paths and all(_holds_particle_images(Path(p)) for p in paths) else None


def _holds_particle_images(path: Path) -> bool:
    """Look at the head of a file; cheap, because napari asks every reader."""
    try:
        if path.suffix.lower() == ".star":
            with path.open("rb") as stream:
                head = stream.read(_LOOKED_AT)
            return _IMAGE_LABEL.search(head) is not None and _TOMOGRAPHY_LABEL.search(head) is None
        if path.suffix.lower() == ".cs":
            return "blob/path" in (np.load(path, mmap_mode="r", allow_pickle=False).dtype.names or ())
        open_particles(path)
    except (InputError, OSError, ValueError):
        return False
    return True


def read_particles(path: str | Sequence[str]) -> list[LayerData]:
    """Read particle files as napari layers; see :func:`particle_layers`.

    Raises
    ------
    InputError
        When a file or its images cannot be read.
    """
    paths = [path] if isinstance(path, str) else list(path)
    layers = []
    for one in paths:
        layers += particle_layers(one, lazy=bool(preference("particles", "lazy")))
    return layers


def particle_layers(
    path: str | Path, *, pixel_size_angstrom: float | None = None, lazy: bool = True
) -> list[LayerData]:
    """Return one image layer for each box and pixel size of a particle file.

    Parameters
    ----------
    path : str or Path
        ``.star``, ``.cs`` or a bare stack.
    pixel_size_angstrom : float, optional
        Overrides the file's own.
    lazy : bool, default True
        Read images when they are shown; otherwise all at once.

    Returns
    -------
    list of (data, dict, "image")
        ``(n, box, box)`` stacks in Å: axes are particle, y, x. The metadata hold ``source`` (the file), ``pixel_size``
        (Å, None where nobody knows it), ``rows`` (row of the file for each image), ``features`` (a table of what the
        file knows of each image) and ``notes``. Without a pixel size, the units are pixels.

    Raises
    ------
    InputError
        When the file or its images cannot be read.
    """
    source = open_particles(path)
    known = True
    try:
        particles = source.read(pixel_size_angstrom)
    except InputError:
        # Looking at a stack needs no pixel size: where that alone was missing, it opens in pixels.
        particles = source.read(1.0)
        known = False
    if len(particles) == 0:
        raise InputError(f"{path}: holds no particles; open a file with at least one row")
    columns = open_picks(path).read().features if Path(path).suffix.lower() in _TABLES else None
    boxes = np.asarray(particles.images.box_sizes)
    key = np.stack([boxes, np.round(particles.pixel_size_angstrom * 1e4).astype(np.int64)], axis=1)
    unique, inverse = np.unique(key, axis=0, return_inverse=True)
    layers: list[LayerData] = []
    top = 0.0
    for index, (box, _) in enumerate(unique):
        rows = np.flatnonzero(inverse.ravel() == index)
        pixel = float(np.median(particles.pixel_size_angstrom[rows]))
        name = Path(path).stem + (f" ({box} px, {pixel:.4g} Å/px)" if len(unique) > 1 else "")
        stack, options, kind = _layer(path, particles, rows, int(box), pixel if known else None, name, lazy, columns)
        layers.append((stack, options | {"translate": (0.0, top, 0.0)}, kind))
        top += 1.4 * int(box) * pixel  # images of different boxes stand below each other
    return layers


def _layer(
    path: str | Path,
    particles: Particles,
    rows: NDArray[np.int64],
    box: int,
    pixel_size: float | None,
    name: str,
    lazy: bool,
    columns: pd.DataFrame | None,
) -> LayerData:
    stack = ParticleStack(particles.images, rows, box)
    if not lazy:
        stack = ParticleStack(MemoryImages(stack[:]), np.arange(len(rows)), box)
    unit = "angstrom" if pixel_size else "pixel"
    metadata = {
        "source": str(Path(path).absolute()),
        "pixel_size": pixel_size,
        "rows": rows,
        "features": particle_table(particles, rows, columns),
        "notes": list(particles.notes),
    }
    return (
        stack,
        {
            "name": name,
            "scale": (1.0, pixel_size or 1.0, pixel_size or 1.0),
            "units": ("pixel", unit, unit),
            "axis_labels": ("particle", "y", "x"),
            "contrast_limits": contrast_limits(stack),
            "rgb": False,
            "multiscale": False,
            "metadata": metadata,
        },
        "image",
    )


def contrast_limits(stack: ParticleStack) -> tuple[float, float]:
    """Return display limits from images spread over the stack: 0.5 and 99.5 per cent, single hot pixels aside."""
    rows = np.unique(np.linspace(0, len(stack) - 1, min(_SAMPLE, len(stack))).astype(np.int64))
    values = stack[rows]
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def particle_table(particles: Particles, rows: NDArray[np.int64], columns: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what is known of each particle of ``rows``: one row each, ``row`` being its row in the file.

    ``columns`` are those of the file, under their own names.
    """
    groups = np.array(particles.optics_group_names)[particles.optics_group[rows]]
    table = pd.DataFrame({"row": rows, "optics_group": groups})
    if particles.micrograph is not None:
        table["micrograph"] = np.asarray(particles.micrograph)[rows]
    if particles.coordinates_px is not None:
        table["x_px"], table["y_px"] = particles.coordinates_px[rows].T
    if particles.ctf is not None:
        ctf = particles.ctf
        table["defocus_angstrom"] = (ctf.defocus_u_angstrom[rows] + ctf.defocus_v_angstrom[rows]) / 2
    for name in [] if columns is None else columns.columns:
        if name not in table:
            table[name] = columns[name].iloc[rows].array
    return table
