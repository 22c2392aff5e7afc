"""Parameters of picking in tomograms."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PickTomogramsParameters(BaseModel):
    """Parameters of picking in tomograms; names and units are those of picking in micrographs. Lengths are in Å."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    threshold: float | None = Field(
        None, gt=0, le=100, description="Lowest score of a pick, in standard deviations of the noise"
    )
    fdr: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of false picks to accept: sets the threshold; default: 0.05 without --threshold",
    )
    diameter: float | None = Field(
        None, gt=0, description="Longest extent of the particle in Å; default: measured on the map"
    )
    min_distance: float | None = Field(
        None, gt=0, description="Least distance of two picks in Å; default: 0.55 diameters"
    )
    lowpass: float = Field(40.0, gt=0, description="Finest detail of the map that counts in Å")
    highpass: float | None = Field(None, gt=0, description="Coarsest detail of the map that counts in Å")
    angular_step: float = Field(15.0, ge=2, le=180, description="Degrees between neighbouring orientations")
    symmetry: str = Field("C1", description="Point group of the map, in RELION's setting")
    tilt_range: tuple[float, float] | None = Field(
        None, description="Lowest and highest tilt of the series about y, in degrees: the map gets the missing wedge"
    )
    pixel_size: float | None = Field(
        None, gt=0, description="Voxel size of the tomograms in Å; overrides the one in the data"
    )
    templates_pixel_size: float | None = Field(None, gt=0, description="Of the map in Å; overrides the one in the data")
    contrast: Literal["auto", "black", "white"] = Field("auto", description="Are the particles dark or bright?")
    surrogates: int = Field(
        1, ge=1, le=100, description="Noise volumes for each tomogram; small tomograms get as many as are needed"
    )
    score_maps: bool = Field(False, description="Write the score maps too")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
