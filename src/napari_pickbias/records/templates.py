"""Template images from a stack or from a list of class averages.

The adapters announce the lists they read through the entry point group ``napari_pickbias.template_sources``, one entry
per file suffix.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import open_data, read_header
from napari_pickbias.records.volume import Templates

TEMPLATE_SOURCES = "napari_pickbias.template_sources"
STACK_SUFFIXES = (".mrcs", ".mrc", ".st", ".mrcs.gz", ".mrc.gz")

MOST_TEMPLATES = 1000
"""More images than this are particles, given by mistake; nobody has so many class averages."""

OpenTemplates = Callable[[Path, float | None], Templates]


def read_templates(path: str | Path, pixel_size_angstrom: float | None = None) -> Templates:
    """Read templates.

    Parameters
    ----------
    path : str or Path
        A stack (``.mrcs``, ``.mrc``), or RELION's ``_model.star``, ``class_averages.star`` or any STAR file with image
        names.
    pixel_size_angstrom : float, optional
        Overrides what the file says.

    Raises
    ------
    InputError
        When the file is missing, holds no square images or values that are not finite, or its pixel size is not known.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--templates {path}: no such file; give a stack (.mrcs) or a STAR file of class averages")
    if path.name.lower().endswith(STACK_SUFFIXES):
        return _checked(path, read_template_stack(path, pixel_size_angstrom))
    entries = entry_points(group=TEMPLATE_SOURCES)
    for entry in entries:
        if path.suffix.lower() == f".{entry.name}":
            reader: OpenTemplates = entry.load()
            return _checked(path, reader(path, pixel_size_angstrom))
    known = ", ".join(sorted({*(f".{e.name}" for e in entries), *STACK_SUFFIXES}))
    raise InputError(f"--templates {path}: cannot tell what this file is; known suffixes are {known}")


def read_template_stack(path: Path, pixel_size_angstrom: float | None = None) -> Templates:
    """Read all images of a stack.

    Raises
    ------
    InputError
        When it is a map, or has no pixel size and none is given.
    """
    header = read_header(path)
    if not header.is_stack:
        raise InputError(f"--templates {path}: is {header.describe()}; give it as --map, or images as a stack (.mrcs)")
    pixel = pixel_size_angstrom or header.pixel_size_angstrom
    if pixel is None:
        raise InputError(
            f"--templates {path}: its header holds no pixel size; give it in Å with --templates-pixel-size"
        )
    check_count(path, header.shape[0] if len(header.shape) == 3 else 1)
    data = np.asarray(open_data(path), np.float32)
    return Templates(data[None] if data.ndim == 2 else data, float(pixel))


def check_count(path: Path, count: int) -> None:
    """Refuse particles given as templates, before they are read.

    Raises
    ------
    InputError
        When there are more images than anybody has class averages.
    """
    if count > MOST_TEMPLATES:
        raise InputError(
            f"--templates {path}: holds {count} images, more than the {MOST_TEMPLATES} that can be templates; give "
            "class averages, not particles"
        )


def _checked(path: Path, templates: Templates) -> Templates:
    images = templates.images
    if images.shape[1] != images.shape[2]:
        raise InputError(
            f"--templates {path}: its images are {images.shape[1]} × {images.shape[2]} px; templates must be square"
        )
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))
    if len(bad):
        raise InputError(f"--templates {path}: image {bad[0] + 1} holds NaN or infinite pixels; remove that template")
    flat = np.ptp(images, axis=(1, 2)) == 0
    if flat.all():
        raise InputError(f"--templates {path}: all its images are constant; give class averages with particles")
    # An empty class of a 2-D classification is an image of zeros.
    return Templates(images[~flat], templates.pixel_size_angstrom)
