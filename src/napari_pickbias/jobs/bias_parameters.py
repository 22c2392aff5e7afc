"""Parameters of the bias diagnosis."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_pickbias.jobs.pick_parameters import PickParameters


class BiasParameters(BaseModel):
    """Parameters of the bias diagnosis; every door builds this model. Lengths are in Å."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    threshold: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Lowest score of a pick, in standard deviations of the noise; default: the one --fdr asks for",
    )
    fdr: float = Field(0.05, gt=0, lt=1, description="Share of false picks that the recommended threshold accepts")
    select: Literal["fdr", "knockoff"] = Field(
        "fdr", description="How --fdr is kept for own picks: by noise images, or by templates of inverted contrast"
    )
    lowpass: float | None = Field(
        None, gt=0, description="Low-pass of the templates when they picked, in Å; default: a third of the diameter"
    )
    diameter: float | None = Field(
        None, gt=0, description="Longest extent of the particle in Å; default: measured on the map or the templates"
    )
    min_distance: float | None = Field(
        None, gt=0, description="Least distance of two picks in Å; default: 0.55 diameters"
    )
    angular_step: float = Field(15.0, ge=0.5, le=180, description="Degrees between views and between in-plane angles")
    symmetry: str = Field("C1", description="Point group of the map, in RELION's setting")
    pixel_size: float | None = Field(None, gt=0, description="Of the micrographs in Å; overrides the one in the data")
    templates_pixel_size: float | None = Field(
        None, gt=0, description="Of map or templates in Å; overrides the one in the data"
    )
    contrast: Literal["auto", "black", "white"] = Field("auto", description="Are the particles dark or bright?")
    ctf: Literal["auto", "none", "flip", "multiply"] = Field(
        "auto", description="What each micrograph's CTF does to the templates; auto: multiply where the CTF is known"
    )
    surrogates: int = Field(2, ge=1, le=100, description="Noise images for each micrograph")
    border: float = Field(0.0, ge=0, description="Width of the border to leave out in Å")
    nulls: int = Field(32, ge=8, le=1000, description="Repeats of the random-place null")
    class_averages: int | None = Field(
        None, ge=2, le=200, description="Classify picks and noise into so many classes that know no template"
    )
    align_classes: bool = Field(False, description="Let these classes turn in their plane; takes twelve times as long")
    volume: bool = Field(False, description="Make maps of the picks and of noise as well; needs --map")
    bait: str | None = Field(
        None, description="Leave this part out of the map, pick again, and see what comes back: auto, or a mask (MRC)"
    )
    controls: str | None = Field(
        None, description="Diagnose control templates as well: sphere, scrambled, other=MAP, with commas between"
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice")

    def picking(self, lowpass: float) -> PickParameters:
        """Return the parameters of the matching."""
        return PickParameters(
            diameter=self.diameter, min_distance=self.min_distance, lowpass=lowpass, angular_step=self.angular_step,
            symmetry=self.symmetry, pixel_size=self.pixel_size, templates_pixel_size=self.templates_pixel_size,
            contrast=self.contrast, ctf=self.ctf, surrogates=self.surrogates, border=self.border, seed=self.seed,
        )  # fmt: skip
