"""Parameters of the soft-modes job."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SoftmodesParameters"]


class SoftmodesParameters(BaseModel):
    """Parameters of the soft-modes job; every door builds this model and ``summary.json`` keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    box: int | None = Field(
        None, ge=8, le=96, description="Voxels to which the map is Fourier-cropped; default: 32, or the map if smaller"
    )
    modes: int = Field(6, ge=1, le=40, description="Number of modes")
    shifts: bool = Field(True, description="Shifts of particles are unknown, besides their rotations")
    contrast: bool = Field(False, description="The contrast of particles is unknown as well")
    noise: float | None = Field(
        None,
        gt=0,
        description="Variance of the noise over the mean energy of the map's projections, per pixel; default: 13",
    )
    views: str | None = Field(
        None, description="What if the views were others: uniform, polar:DEG or equatorial:DEG in place of the poses"
    )
    add_views: str | None = Field(
        None, description="What if as many particles again were added with views uniform, polar:DEG or equatorial:DEG"
    )
    particles_count: int | None = Field(
        None, ge=2, description="What if there were this many particles, of the same views"
    )
    most_views: int = Field(1024, ge=16, le=8192, description="Views computed with; more particles are binned to it")
    pixel_size: float | None = Field(None, gt=0, description="Å; overrides the pixel size in the data")
    iterations: int = Field(60, ge=1, le=1000, description="Iterations of the solver, at most")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
