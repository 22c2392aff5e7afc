"""The reader that napari asks for: particles, picks, micrographs, maps; hands off what is none of them. No Qt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.gui.map_layers import map_layers
from napari_pickbias.gui.pick_layers import pick_layers
from napari_pickbias.gui.reader import get_particle_reader, read_particles
from napari_pickbias.records import read_header

LayerData = tuple[Any, dict[str, Any], str]

_LOOKED_AT = 1 << 22
_PICKS = re.compile(rb"^[ \t]*_(rln(CoordinateX|MicrographCoordinates|MicrographName)|CoordinateX)\b", re.MULTILINE)
_OTHER = re.compile(rb"^[ \t]*_rln(Tomo\w+|JobTypeLabel|PipeLine\w+)\b", re.MULTILINE)
"""Tilt series and lists of tomograms, and RELION's own books."""
_IN_TOMOGRAMS = re.compile(rb"^[ \t]*_rln(CoordinateZ|CenteredCoordinateZAngst)\b", re.MULTILINE)
_IMAGES = re.compile(rb"^[ \t]*_rlnImageName\b", re.MULTILINE)
_PICK_SUFFIXES = {".star", ".cbox", ".box"}
_MAP_SUFFIXES = {".mrc", ".map", ".mrcs"}
_SHARED_SUFFIXES = {".rec", ".st", ".gz", ".bz2"}
"""Suffixes that other kinds of files have too: taken where the header is that of an MRC file."""


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader for ``path``, or None where it holds nothing of ours; only heads of files are looked at."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        return None
    particles = all(Path(p).suffix.lower() in (".star", ".cs", ".mrcs") for p in paths)
    if particles and get_particle_reader(paths) is not None:
        return read_particles
    if all(_holds_picks(Path(p)) for p in paths):
        return read_picks
    if all(_is_map(Path(p)) for p in paths):
        return read_maps
    return None


def read_picks(path: str | Sequence[str]) -> list[LayerData]:
    """Read pick files and lists of micrographs as layers; see :func:`napari_pickbias.gui.pick_layers.pick_layers`."""
    return [layer for one in ([path] if isinstance(path, str) else path) for layer in pick_layers(one)]


def read_maps(path: str | Sequence[str]) -> list[LayerData]:
    """Read MRC files as layers; see :func:`napari_pickbias.gui.map_layers.map_layers`."""
    return [layer for one in ([path] if isinstance(path, str) else path) for layer in map_layers(one)]


def _holds_picks(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".cs" and path.is_file():
        try:
            names = np.load(path, mmap_mode="r", allow_pickle=False).dtype.names or ()
        except (OSError, ValueError):
            return False
        return "location/center_x_frac" in names
    if suffix not in _PICK_SUFFIXES or not path.is_file():
        return False
    if suffix != ".star":
        return True
    with path.open("rb") as stream:
        head = stream.read(_LOOKED_AT)
    if path.name.startswith("coords_suffix_") and b"data_" not in head:
        return True
    if _IN_TOMOGRAMS.search(head) is not None:
        return True
    return _PICKS.search(head) is not None and _OTHER.search(head) is None and _IMAGES.search(head) is None


def _is_map(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in _MAP_SUFFIXES or suffix not in _SHARED_SUFFIXES or not path.is_file():
        return suffix in _MAP_SUFFIXES and path.is_file()
    try:
        read_header(path)
    except InputError:
        return False
    return True
