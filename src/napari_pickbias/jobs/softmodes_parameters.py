"""Parameters of the soft-modes job."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SoftmodesParameters"]


class SoftmodesParameters(BaseModel):
    """Parameters of the soft-modes job; every door builds this model and ``summary.json`` keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    box: int | None = Field(
        None, ge=8, le=96, description="Voxels to which the map is Fourier-cropped; default: 32, or the map if smaller"
    )
    coarsest: float | None = Field(
        None,
        gt=0,
        description="Å; changes coarser than this count as known: the lowest frequencies, which the CTF hides",
    )
    modes: int = Field(6, ge=1, le=40, description="Number of modes")
    shifts: bool = Field(True, description="Shifts of particles are unknown, besides their rotations")
    contrast: bool = Field(False, description="The contrast of particles is unknown as well")
    symmetry: str = Field("C1", description="Point group that the refinement imposed: C1, C4, D2, T, O, I1 ...")
    noise: str | None = Field(
        None,
        description="The refinement's model.star; or one of its unfiltered half maps (half1 or half2 in its name); or "
        "the variance of the noise over the mean energy of the map's projections, per pixel (default: 13)",
    )
    views: str | None = Field(
        None, description="What if the views were others: uniform, polar:DEG, equatorial:DEG, or a particle file"
    )
    add_views: str | None = Field(
        None,
        description="What if as many particles again were added: uniform, polar:DEG, equatorial:DEG, tilt:DEG (the "
        "same particles on a tilted stage) or a particle file",
    )
    defocus: str | None = Field(
        None, description="What if the mean defocus were another: one or more values in Å, such as 10000,17000,23000"
    )
    particles_count: int | None = Field(
        None, ge=2, description="What if there were this many particles, of the same views"
    )
    what_if: bool = Field(
        False, description="Try stage tilts, defoci and more particles in a small box, and say which would help most"
    )
    most_views: int = Field(1024, ge=16, le=8192, description="Views computed with; more particles are binned to it")
    path_steps: int = Field(5, ge=2, le=50, description="Maps looked at along a straight path to another map")
    pixel_size: float | None = Field(None, gt=0, description="Å; overrides the pixel size in the data")
    images: bool = Field(
        False,
        description="Read the images: the Hessian of these very images, with their residuals, not the expected one",
    )
    iterations: int = Field(60, ge=1, le=1000, description="Iterations of the solver, at most")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
