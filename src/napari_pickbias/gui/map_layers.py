"""Maps, tomograms, single micrographs and odd stacks as lazy layers in Å. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.records import MrcHeader, open_data, read_header

LayerData = tuple[Any, dict[str, Any], str]
_SAMPLE = 200_000


def map_layers(path: str | Path) -> list[LayerData]:
    """Return one image layer for a map, tomogram, micrograph, stack or stack of maps.

    Plain files are memory-mapped, so even a tomogram opens at once. Axes are z, y, x whatever order the file stores
    them in; a map stands where its header's origin says. Without a pixel size the units are pixels.

    Raises
    ------
    InputError
        When the file is no MRC file, is damaged or short.
    """
    header = read_header(path)
    data = open_data(path)
    if data.ndim == 3 and header.kind in ("image", "stack") and len(data) == 1:
        data = data[0]
    sizes = _sizes(header)
    spatial = 3 if header.kind in ("volume", "volume stack") else 2
    if spatial == 3 and data.ndim >= 3 and header.axes != (1, 2, 3):
        stored = [3 - axis for axis in reversed(header.axes)]
        first = data.ndim - 3
        data = np.transpose(data, [*range(first), *(first + np.argsort(stored))])
    leading = data.ndim - spatial
    scale = (1.0,) * leading + tuple(s or 1.0 for s in sizes[-spatial:])
    unit = "angstrom" if sizes[-1] else "pixel"
    show: dict[str, Any] = {
        "name": Path(path).stem,
        "scale": scale,
        "units": ("pixel",) * leading + (unit,) * spatial,
        "axis_labels": (("map",) if spatial == 3 else ("image",)) * leading + ("z", "y", "x")[-spatial:],
        "contrast_limits": limits(data),
        "rgb": False,
        "multiscale": False,
        "metadata": {"map": str(Path(path).absolute()), "pixel_size": sizes[-1], "notes": list(header.notes)},
    }
    if spatial == 3:
        show |= {
            "translate": (0.0,) * leading + tuple(float(o) for o in reversed(header.origin_angstrom)),
            "rendering": "attenuated_mip",
            "iso_threshold": float(show["contrast_limits"][1] / 3),
        }
    return [(data, show, "image")]


def limits(data: NDArray[Any]) -> tuple[float, float]:
    """Return display limits from values spread over the array: 0.5 and 99.5 per cent."""
    step = max(1, round((data.size / _SAMPLE) ** (1 / data.ndim)))
    sample = np.asarray(data[(slice(None, None, step),) * data.ndim], np.float32).ravel()
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def _sizes(header: MrcHeader) -> tuple[float | None, float | None, float | None]:
    """Return z, y, x in Å; all None unless x and y are known."""
    x, y, z = header.voxel_size_angstrom
    if x is None or y is None:
        return None, None, None
    return z or x, y, x
