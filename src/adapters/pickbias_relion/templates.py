"""Class averages as templates: ``_model.star``, ``class_averages.star``, or any STAR file with image names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import open_data, read_header
from napari_pickbias.records.templates import check_count
from napari_pickbias.records.volume import Templates
from pickbias_relion.project_paths import resolve_all, tried
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import read_columns
from pickbias_relion.star_index import text_of
from pickbias_relion.star_optics import PIXEL_LABELS, read_optics

IMAGES = ("rlnReferenceImage", "rlnImageName")
"""Labels of template images, RELION's own first."""


def open_templates(path: str | Path, pixel_size_angstrom: float | None = None) -> Templates:
    """Read the class averages that a STAR file names.

    The pixel size is the one given, ``rlnPixelSize`` of a ``_model.star``, that of the optics groups, or that of the
    stack's header, in this order.

    Raises
    ------
    InputError
        When no images are named, one is not there, they differ in size, or there is no pixel size.
    """
    star = open_star(path)
    table = next((t for t in star.tables if t.is_loop and t.n_rows and any(x in t.labels for x in IMAGES)), None)
    if table is None:
        raise InputError(f"{star.path}: names no images; give a _model.star or class_averages.star, or a stack (.mrcs)")
    label = next(x for x in IMAGES if x in table.labels)
    check_count(star.path, table.n_rows)
    names = read_columns(star, table, images=[label]).images[label]
    paths = list(resolve_all(names.files.values, star.path))
    for name, found in zip(names.files.values, paths, strict=True):
        if found is None:
            raise InputError(
                f"{star.path}: names the images {text_of(name)!r}, which are not there; looked in {tried(star.path)}; "
                "run in the RELION project's folder"
            )
    files = [found for found in paths if found is not None]
    stacks = [_stack(file) for file in files]
    images = []
    for code, index in zip(names.files.codes.tolist(), names.slice_index.tolist(), strict=True):
        stack = stacks[code]
        if index >= len(stack):
            raise InputError(f"{star.path}: asks for image {index + 1} of {files[code]}, which has {len(stack)}")
        images.append(np.asarray(stack[max(index, 0)], np.float32))
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{star.path}: its images differ in size; give templates of one box size")
    pixel = pixel_size_angstrom or _pixel_size(star) or read_header(files[0]).pixel_size_angstrom
    if pixel is None:
        raise InputError(f"{star.path}: tells no pixel size of its images; give it in Å with --templates-pixel-size")
    return Templates(np.stack(images), float(pixel))


def _stack(path: Path) -> np.ndarray:
    header = read_header(path)
    if not header.is_stack:
        raise InputError(f"{path}: is {header.describe()}, not class averages; give it as --map")
    data = open_data(path)
    return data[None] if data.ndim == 2 else data


def _pixel_size(star: StarFile) -> float | None:
    general = star.find("model_general", loop=False)
    if general is not None and "rlnPixelSize" in general.labels:
        text = text_of(general.values[general.labels.index("rlnPixelSize")])
        try:
            value = float(text)
        except ValueError:
            raise InputError(f"{star.path}: rlnPixelSize is {text!r}, which is not a number; correct it") from None
        return value if value > 0 else None
    sizes = read_optics(star).columns.floats
    for label in PIXEL_LABELS:
        if label in sizes and (sizes[label] > 0).all():
            return float(sizes[label][0])
    return None
