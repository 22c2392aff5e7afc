"""Parameters of reconstruction without picking."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["PickfreeParameters", "parse_stages"]

_STAGE = re.compile(r"(\d+)(?::(\d*\.?\d+))?(?::(\d+))?")


def parse_stages(text: str) -> list[tuple[int, float, int | None]]:
    """Read ``ITERATIONS[:FRACTION[:LAST_SHELL]]``, separated by commas.

    Returns
    -------
    list of (int, float, int or None)
        Iterations, share of the patches that each sees, last Fourier shell of the map.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    found = []
    for part in text.split(","):
        match = _STAGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part.strip()!r} is no stage; write ITERATIONS:FRACTION:LAST_SHELL, such as 10:0.5,3:1")
        fraction = float(match[2] or 1)
        if not int(match[1]) or not 0 < fraction <= 1:
            raise ValueError(f"{part.strip()!r}: iterations must be at least 1, and the fraction above 0, at most 1")
        found.append((int(match[1]), fraction, None if match[3] is None else int(match[3])))
    return found


class PickfreeParameters(BaseModel):
    """Parameters of reconstruction without picking; every door builds this model and ``summary.json`` keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    box: int = Field(
        ge=5, le=41, description="Pixels a side of the reconstruction: the initial map is Fourier-cropped to it"
    )
    rotations: int | None = Field(
        None,
        ge=8,
        le=40000,
        description="Rotations of the fine grid: 576 for 30°, 4608 for 15° (default), 36864 for 7.5°",
    )
    iterations: int = Field(13, ge=1, le=200, description="Iterations: the last three see all patches, others half")
    stages: str | None = Field(
        None, description="Instead of --iterations: ITERATIONS:FRACTION:LAST_SHELL, by commas, such as 10:0.5,3:1"
    )
    preset: Literal["fast", "paper"] = Field(
        "fast", description="paper: stages of 5, 5, 10 iterations on 5 % of the patches, 552 rotations, no prior"
    )
    contrast: Literal["white", "black", "auto"] = Field("white", description="Particles against their background")
    whiten: bool = Field(True, description="Whiten the noise by the spectrum of the quieter parts of micrographs")
    ctf: bool = Field(True, description="Use the CTF of the micrographs")
    groups: int = Field(8, ge=1, le=64, description="Defocus groups, at most")
    empty: float = Field(0.55, gt=0, lt=1, description="First guess of the share of patches without particles")
    noise: float | None = Field(
        None, gt=0, description="Noise variance over that measured on the micrographs, kept; default: learned from 1 on"
    )
    lowpass: float | None = Field(
        None,
        gt=0,
        description="Finest detail kept in the start, Å; default: that of a fifth of the box in Fourier shells",
    )
    snr: float | None = Field(
        None, gt=0, description="Signal-to-noise ratio to which the start is scaled; default: the likeliest"
    )
    views: bool = Field(False, description="Learn the distribution of views")
    junk: bool = Field(False, description="Have a class for patches that hold neither noise nor the particle")
    prior: Literal["own", "fsc"] = Field("own", description="Prior of the last iterations: the map's power, or the FSC")
    starts: int = Field(1, ge=1, le=8, description="Starts tried (perturbed beyond the first); the likeliest is kept")
    null: bool = Field(True, description="Run the same on surrogates of the micrographs as well")
    pixel_size: float | None = Field(None, gt=0, description="Å; overrides the micrographs' pixel size")
    map_pixel_size: float | None = Field(None, gt=0, description="Å; overrides the initial map's voxel size")
    device: Literal["cpu", "cuda"] = Field("cpu", description="cuda: a GPU, through CuPy; every hypothesis is scored")
    seed: int = Field(0, ge=0, description="Seed of every random choice")

    @field_validator("stages")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            parse_stages(value)
        return value
