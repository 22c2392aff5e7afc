"""Results of outlier removal as napari layers: a verdict on every particle, averages and examples. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.gui.reader import LayerData
from napari_pickbias.jobs.outlier_parameters import REASONS
from napari_pickbias.jobs.outliers import Example, GroupResult, OutlierResult
from napari_pickbias.report.palette import REASON_COLORS

OURS = "pickbias_result"
"""Key in a layer's metadata that marks it as made here; its value is the particle file, or :data:`GALLERY`."""
GALLERY = "gallery"
EXAMPLES_SHOWN = 5
LABELLED = 50_000
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
    layers = []
    for layer in particles:
        circles = verdict_layer(layer, table, radius_angstrom)
        layers.append(circles)
        if layer[0].shape[0] <= LABELLED:
            layers.append(verdict_text_layer(layer, circles[1]["features"]))
    if result is not None:
        side = max(stack.shape[2] * options["scale"][2] for stack, options, _ in particles)
        corner = (0.0, 1.5 * side)
        for group in result.groups:
            name = "averages and examples" + (f" ({group.group.name})" if len(result.groups) > 1 else "")
            members = np.isin([e.row for e in result.examples], group.group.rows)
            examples = [e for e, inside in zip(result.examples, members, strict=True) if inside]
            made = gallery_layers(group, examples, name, corner)
            layers += made
            if made:
                canvas, shown, _ = made[0]
                corner = (corner[0] + canvas.shape[0] * shown["scale"][0] + 0.2 * side, corner[1])
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
        "border_color_cycle": dict(REASON_COLORS),
        "border_width": 0.05,
        **_same_place(options),
    }
    return place, show, "points"


def verdict_text_layer(particles: LayerData, features: pd.DataFrame) -> LayerData:
    """Return the verdict in words above every particle; ``features`` are those of its circle."""
    stack, options, _ = particles
    count, box, _ = stack.shape
    strip = box / 4
    place = np.column_stack([np.arange(count), np.full(count, -0.45 * strip), np.full(count, 0.08 * box)])
    scored = "score" in features
    side = box * options["scale"][1]
    show = {
        "name": f"{options['name']}: verdict in words",
        "features": features[["row", "reason", *(["score"] if scored else [])]],
        "size": 0.12 * box,
        "face_color": "reason",
        "face_color_cycle": dict(REASON_COLORS),
        "border_width": 0,
        "text": {
            "string": "{reason}  {score:.1f}" if scored else "{reason}",
            "translation": (0.0, 0.25 * strip, 0.12 * box),
            **_label_text(side),
        },
        **_same_place(options),
    }
    return place, show, "points"


def _same_place(options: dict[str, Any]) -> dict[str, Any]:
    """Return what lays a layer over the particles with ``options``, and marks it as a result."""
    metadata = {OURS: options["metadata"]["source"]}
    return {name: options[name] for name in ("scale", "translate", "units", "axis_labels")} | {"metadata": metadata}


def gallery_layers(
    group: GroupResult, examples: Sequence[Example], name: str, corner: tuple[float, float]
) -> list[LayerData]:
    """Return one picture, a row for each reason: the average, then examples drawn at random; and the rows' labels.

    ``corner`` is y, x in Å where the first picture begins; the row's label stands above it. Each picture has its own
    grey scale: an average of many images would vanish beside the noise of one.
    """
    side, pixel = group.group.working_box_px, group.group.working_pixel_size_angstrom
    reasons = [reason for reason in REASONS if reason in group.sums]
    if not reasons:
        return []
    gap, strip = max(1, side // 16), max(4, side // 4)  # the strip above each row holds its label
    high, wide = side + strip, side + gap
    canvas = np.zeros((len(reasons) * high, (EXAMPLES_SHOWN + 1) * wide - gap), np.float32)
    for line, reason in enumerate(reasons):
        sums = group.sums[reason]
        pictures = [sums.image / sums.count, *(e.image for e in examples if e.reason == reason)]
        for column, picture in enumerate(pictures[: EXAMPLES_SHOWN + 1]):
            y, x = line * high + strip, column * wide
            canvas[y : y + side, x : x + side] = _grey(picture)
    colors = [REASON_COLORS[reason] for reason in reasons]
    texts = [f"{reason}: average of {group.sums[reason].count:,}, and examples" for reason in reasons]
    places = np.array([[line * high + 0.55 * strip, 0.08 * side] for line in range(len(reasons))])
    shared = {
        "scale": (pixel, pixel),
        "translate": (corner[0] - strip * pixel, corner[1]),
        "units": "angstrom",
        "metadata": {OURS: GALLERY, "reasons": reasons},
    }
    text = {
        "string": "{label}",
        "translation": (0.25 * strip, 0.12 * side),
        **_label_text(side * pixel),
    }
    return [
        (canvas, {**shared, "name": name, "contrast_limits": (0.0, 1.0), "colormap": "gray"}, "image"),
        (
            places,
            {
                **shared,
                "name": f"{name}: labels",
                "features": pd.DataFrame({"label": texts}),
                "size": 0.12 * side,
                "face_color": colors,
                "border_width": 0,
                "text": text,
            },
            "points",
        ),
    ]


def _label_text(side_angstrom: float) -> dict[str, Any]:
    """Return how labels look: they grow with the images that they stand above."""
    return {"size": 0.1 * side_angstrom, "scaling": True, "anchor": "upper_left", "color": "white"}


def _grey(picture: NDArray[Any]) -> NDArray[np.float32]:
    """Return a picture between 0 and 1; 0.02 at least, so that the gaps between pictures stay the darkest."""
    finite = picture[np.isfinite(picture)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(picture) - low) / (high - low if high > low else 1.0)
    return np.clip(scaled, 0.02, 1.0).astype(np.float32)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Return the table that an earlier run left in ``scores.csv``."""
    return pd.read_csv(path, index_col="row")
