"""Parameters of picking."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PickParameters(BaseModel):
    """Parameters of picking by template matching; every door builds this model. Lengths are in Å."""

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
        None, gt=0, description="Longest extent of the particle in Å; default: measured on the map or the templates"
    )
    min_distance: float | None = Field(
        None, gt=0, description="Least distance of two picks in Å; default: 0.55 diameters"
    )
    lowpass: float = Field(20.0, gt=0, description="Finest detail of the templates that counts in Å")
    highpass: float | None = Field(None, gt=0, description="Coarsest detail of the templates that counts in Å")
    angular_step: float = Field(15.0, ge=0.5, le=180, description="Degrees between views and between in-plane angles")
    symmetry: str = Field("C1", description="Point group of the map, in RELION's setting")
    pixel_size: float | None = Field(None, gt=0, description="Of the micrographs in Å; overrides the one in the data")
    templates_pixel_size: float | None = Field(
        None, gt=0, description="Of map or templates in Å; overrides the one in the data"
    )
    contrast: Literal["auto", "black", "white"] = Field("auto", description="Are the particles dark or bright?")
    ctf: Literal["auto", "none", "flip", "multiply"] = Field(
        "auto",
        description="What each micrograph's CTF does to the templates; auto: multiply where the CTF is known",
    )
    peaks: Literal["local_maximum", "greedy", "paper"] = Field(
        "local_maximum",
        description="Which scores are picks: local maxima within the least distance; greedy: walking down the scores, "
        "whatever is that far from all taken; paper: the same with boxes of that side that may not overlap",
    )
    whiten: bool = Field(False, description="Divide micrograph and templates by the noise's amplitude")
    noise: Literal["auto", "tile", "phases", "inverted"] = Field(
        "auto", description="Where false picks are learned from; the last three overstate them on crowded micrographs"
    )
    surrogates: int = Field(2, ge=1, le=100, description="Noise images for each micrograph")
    rotation_basis: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Match a view's rotations through a basis that leaves out at most this of a template, such as "
        "0.01: faster with fine angular steps; 0: each by itself",
    )
    border: float = Field(0.0, ge=0, description="Width of the border to leave out in Å")
    score_maps: bool = Field(False, description="Write the score maps too")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
