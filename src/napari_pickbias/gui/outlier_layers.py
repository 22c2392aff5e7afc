"""Results of outlier removal as napari layers: a verdict on every particle, averages and examples. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.gui.reader import LayerData
from napari_pickbias.jobs.outliers import Example, GroupResult, OutlierResult
from napari_pickbias.outliers.verdicts import REASONS
from napari_pickbias.report.palette import REASON_COLORS

OURS = "pickbias_result"
"""Key in a layer's metadata that marks it as made here: a new run replaces such layers, and no others."""
EXAMPLES_SHOWN = 6
_LABELLED = 50_000
"""Up to so many particles carry their verdict as text; napari formats all texts at once."""


def result_layers(
    particles: Sequence[LayerData], table: pd.DataFrame, radius_angstrom: float | None, result: OutlierResult | None
) -> list[LayerData]:
    """Return the layers that show a result beside the particles.

    Parameters
    ----------
    particles : sequence of layer data
        From :func:`napari_pickbias.gui.reader.particle_layers`.
    table : DataFrame
        One row per particle of the file, with ``keep``, ``reason`` and ``score`` (``scores.csv`` will do).
    radius_angstrom : float or None
        Of the circle that marks the verdict; None where only the job knows it.
    result : OutlierResult or None
        For averages and examples; None where the run had been finished before.
    """
    layers = [verdict_layer(layer, table, radius_angstrom) for layer in particles]
    if result is not None:
        first = particles[0]
        left = first[0].shape[2] * first[1]["scale"][2] * 1.2
        top = 0.0
        for number, group in enumerate(result.groups):
            name = "averages and examples" + (f" ({group.group.name})" if len(result.groups) > 1 else "")
            members = np.isin([e.row for e in result.examples], group.group.rows)
            examples = [e for e, inside in zip(result.examples, members, strict=True) if inside]
            made = gallery_layers(group, examples, name, (top, left))
            layers += made
            if number + 1 < len(result.groups) and made:
                top += made[0][0].shape[0] * made[0][1]["scale"][0] * 1.1
    return layers


def verdict_layer(particles: LayerData, table: pd.DataFrame, radius_angstrom: float | None) -> LayerData:
    """Return a circle on every particle, coloured by its verdict, where the detector found the particle.

    The features are the verdict's columns, so that napari's features table, status bar and colour modes can use them.
    """
    stack, options, _ = particles
    metadata = options["metadata"]
    rows, pixel = metadata["rows"], metadata["pixel_size"] or 1.0
    part = table.iloc[rows].reset_index(drop=True)
    count, box, _ = stack.shape
    place = np.full((count, 3), box // 2, np.float64)
    place[:, 0] = np.arange(count)
    for axis, name in ((1, "center_y_angstrom"), (2, "center_x_angstrom")):
        if name in part:
            offset = part[name].to_numpy(np.float64) / pixel
            place[:, axis] += np.where(np.isfinite(offset), offset, 0.0)
    reason = pd.Categorical(part["reason"].astype(str), categories=list(REASONS))
    features = pd.DataFrame({"row": rows, "keep": part["keep"].to_numpy(bool), "reason": reason})
    for name in ("score", "p_value"):
        if name in part and part[name].notna().any():
            features[name] = part[name].to_numpy(np.float64)
    show: dict[str, Any] = {
        "name": f"{options['name']}: verdict",
        "features": features,
        "symbol": "o",
        "size": 2 * radius_angstrom / pixel if radius_angstrom else 0.6 * box,
        "face_color": "transparent",
        "border_color": "reason",
        "border_color_cycle": {name: REASON_COLORS[name] for name in REASONS},
        "border_width": 0.04,
        "scale": options["scale"],
        "units": options["units"],
        "axis_labels": options["axis_labels"],
        "metadata": {OURS: metadata["source"]},
    }
    if count <= _LABELLED:
        form = "{reason}  {score:.1f}" if "score" in features else "{reason}"
        show["text"] = {"string": form, "size": 11, "color": "white", "anchor": "upper_left"}
    return place, show, "points"


def gallery_layers(
    group: GroupResult, examples: Sequence[Example], name: str, corner: tuple[float, float]
) -> list[LayerData]:
    """Return one picture, a row for each reason: the average, then examples drawn at random; and the rows' labels.

    ``corner`` is y, x of its upper left in Å. Each picture has its own grey scale: an average of many images would
    vanish beside the noise of one.
    """
    side, pixel = group.group.working_box_px, group.group.working_pixel_size_angstrom
    reasons = [reason for reason in REASONS if reason in group.sums]
    if not reasons:
        return []
    pitch = side + max(1, side // 16)
    canvas = np.zeros((len(reasons) * pitch, (EXAMPLES_SHOWN + 1) * pitch), np.float32)
    for line, reason in enumerate(reasons):
        sums = group.sums[reason]
        pictures = [sums.image / sums.count, *(e.image for e in examples if e.reason == reason)]
        for column, picture in enumerate(pictures[: EXAMPLES_SHOWN + 1]):
            y, x = line * pitch, column * pitch
            canvas[y : y + side, x : x + side] = _grey(picture)
    metadata = {OURS: "gallery", "reasons": reasons}
    shared = {"scale": (pixel, pixel), "translate": corner, "units": "angstrom", "metadata": metadata}
    counts = [group.sums[reason].count for reason in reasons]
    labels = pd.DataFrame({"label": [f"{r}: {n:,}" for r, n in zip(reasons, counts, strict=True)]})
    places = np.array([[line * pitch + 0.06 * side, 0.06 * side] for line in range(len(reasons))])
    return [
        (canvas, {**shared, "name": name, "contrast_limits": (0.0, 1.0), "colormap": "gray"}, "image"),
        (
            places,
            {
                **shared,
                "name": f"{name}: labels",
                "features": labels,
                "size": 0.05 * side,
                "face_color": [REASON_COLORS[reason] for reason in reasons],
                "border_width": 0,
                "text": {
                    "string": "{label}",
                    "size": 11,
                    "color": [REASON_COLORS[reason] for reason in reasons],
                    "anchor": "upper_left",
                },
            },
            "points",
        ),
    ]


def _grey(picture: NDArray[Any]) -> NDArray[np.float32]:
    """Return a picture between 0 and 1; 0.02 at least, so that the gaps between pictures stay the darkest."""
    finite = picture[np.isfinite(picture)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(picture) - low) / (high - low if high > low else 1.0)
    return np.clip(scaled, 0.02, 1.0).astype(np.float32)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Return the table that an earlier run left in ``scores.csv``."""
    return pd.read_csv(path, index_col="row")
