"""Parameters of the bias diagnosis in tomograms."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters


class BiasTomogramsParameters(BaseModel):
    """Parameters of the bias diagnosis in tomograms; names and units are those of picking there. Lengths are in Å."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    threshold: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Lowest score of a pick, in standard deviations of the noise; default: the one --fdr asks for",
    )
    fdr: float = Field(0.05, gt=0, lt=1, description="Share of false picks that the recommended threshold accepts")
    lowpass: float | None = Field(
        None, gt=0, description="Low-pass of the map when it picked, in Å; default: a third of the diameter"
    )
    highpass: float | None = Field(None, gt=0, description="Coarsest detail of the map that counts in Å")
    diameter: float | None = Field(
        None, gt=0, description="Longest extent of the particle in Å; default: measured on the map"
    )
    min_distance: float | None = Field(
        None, gt=0, description="Least distance of two picks in Å; default: 0.55 diameters"
    )
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
    nulls: int = Field(32, ge=8, le=1000, description="Repeats of the random-place null")
    seed: int = Field(0, ge=0, description="Seed of every random choice")

    def picking(self, lowpass: float) -> PickTomogramsParameters:
        """Return the parameters of the search."""
        own = self.model_dump(exclude={"threshold", "fdr", "lowpass", "nulls"})
        return PickTomogramsParameters(lowpass=lowpass, **own)
