"""Where things are in a working box: centres of the search grid, the noise ring, the distances between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """The fixed geometry of a detector; all lengths in working pixels, positions relative to pixel ``n // 2``.

    Attributes
    ----------
    box_px : int
        Side of the working box.
    radius_px : float
        Particle radius R: half the longest extent.
    inner_px : float
        Largest offset at which a particle lies wholly in the box, ``box/2 - R``.
    core_px : float
        Centres nearer than this get the full particle model, ``inner + R/2``.
    ring_px : float
        Pixels farther than this from the centre serve the noise estimate.
    centres : (n, 2) float array
        Candidate particle centres (y, x), reaching beyond the box; core centres come first.
    n_core : int
        Number of core centres.
    """

    box_px: int
    radius_px: float
    inner_px: float
    core_px: float
    ring_px: float
    centres: FloatArray
    n_core: int

    @property
    def centre_radius(self) -> FloatArray:
        """Distance of every candidate centre from the box centre, shape (n,)."""
        return np.hypot(self.centres[:, 0], self.centres[:, 1])

    def ring(self) -> NDArray[np.bool_]:
        """Return the (box, box) mask of pixels that serve the noise estimate."""
        y, x = pixel_grid(self.box_px)
        return np.hypot(y, x) > self.ring_px

    def keep_centres(self, mask: NDArray[np.bool_]) -> Geometry:
        """Return the same geometry with only the candidate centres where ``mask`` is true."""
        return Geometry(
            self.box_px,
            self.radius_px,
            self.inner_px,
            self.core_px,
            self.ring_px,
            self.centres[mask],
            int(mask[: self.n_core].sum()),
        )


def pixel_grid(box_px: int) -> tuple[FloatArray, FloatArray]:
    """Return the (y, x) coordinates of every pixel relative to pixel ``box_px // 2``, each (box, box)."""
    line = np.arange(box_px, dtype=np.float64) - box_px // 2
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


def make_geometry(
    box_px: int, radius_px: float, *, step: float = 1 / 3, overhang: float = 0.5, inner_px: float | None = None
) -> Geometry:
    """Lay out the search grid and the noise ring for one box size and particle radius.

    Parameters
    ----------
    box_px : int
        Side of the working box in pixels.
    radius_px : float
        Particle radius R in working pixels.
    step, overhang : float
        Grid step and reach of the grid beyond the box, in units of R.
    inner_px : float, optional
        Overrides ``box/2 - R``: a smaller value rejects particles that are less far off-centre.

    Raises
    ------
    InputError
        When the radius is not positive, or the box is too small to tell off-centre particles from central ones
        (``box/2 - R < R/3``).
    """
    if not (math.isfinite(radius_px) and radius_px > 0):
        raise InputError(f"particle radius: {radius_px:g} px is not a positive length; give the particle's radius")
    if radius_px < 2:
        raise InputError(
            f"particle radius: {radius_px:.3g} working px is too few to judge a shape; "
            "give a larger radius or use larger working images"
        )
    inner = box_px / 2 - radius_px
    if inner < radius_px / 3:
        need = math.ceil(8 / 3 * radius_px)
        raise InputError(
            f"particle radius: a box of {box_px} px is too small for a particle of radius {radius_px:.4g} px, "
            f"central and off-centre particles look alike; extract boxes of at least {need} px "
            f"(better {math.ceil(3.6 * radius_px)}), or give a smaller radius"
        )
    inner = inner if inner_px is None else min(inner_px, inner)
    ring = min(radius_px + 0.4 * (box_px / 2 - radius_px), 0.46 * box_px)
    reach = box_px / 2 + overhang * radius_px
    count = math.floor(reach / (step * radius_px))
    line = np.arange(-count, count + 1) * step * radius_px
    y, x = (a.ravel() for a in np.meshgrid(line, line, indexing="ij"))
    rho = np.hypot(y, x)
    core = inner + radius_px / 2
    order = np.argsort(rho > core, kind="stable")
    centres = np.stack([y, x], axis=1)[order]
    return Geometry(box_px, radius_px, inner, core, ring, centres, int((rho <= core).sum()))
