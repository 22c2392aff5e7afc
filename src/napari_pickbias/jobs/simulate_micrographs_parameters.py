"""Parameters of simulated micrographs and of noise micrographs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SimulateMicrographsParameters(BaseModel):
    """Parameters of simulated micrographs; every door builds this model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    map: str = Field("phantom", description="phantom, or a map file (MRC)")
    count: int = Field(5, ge=1, description="Number of micrographs")
    size: int = Field(1024, ge=64, le=16384, description="Height and width of the micrographs in px")
    width: int | None = Field(None, ge=64, le=16384, description="Width in px where it is not the height")
    pixel_size: float = Field(4.0, gt=0, description="Pixel size of the micrographs in Å")
    per_micrograph: int = Field(100, ge=0, description="Particles on each micrograph")
    radius: float | None = Field(None, gt=0, description="Particle radius in Å; default: of the map, or 80 (phantom)")
    elongation: float = Field(1.0, ge=1, le=4, description="Length over width of the phantom")
    snr: float = Field(
        0.1, gt=0, description="Variance of the particle within its radius over the variance of the noise"
    )
    noise: Literal["white", "coloured", "like"] = Field("white", description="Noise; like: of a spectrum handed in")
    ctf: bool = Field(True, description="Apply a CTF with random defocus")
    views: str = Field("uniform", description="uniform, polar:DEG or equatorial:DEG")
    arrangement: Literal["separated", "touching"] = Field(
        "separated", description="Centres at least 1.1 diameters apart, or half of them 0.9 to 1.05 from another one"
    )
    contrast: Literal["black", "white"] = Field(
        "black", description="Particles are dark, as in raw micrographs, or bright"
    )
    amplitude_spread: float = Field(0.0, ge=0, lt=1, description="Amplitudes are uniform in 1 - spread ... 1 + spread")
    ice: int = Field(0, ge=0, le=1000, description="Lumps of ice on each micrograph")
    carbon: float = Field(0.0, ge=0, le=1, description="Share of micrographs with an edge of carbon film")
    defocus_min: float = Field(10000.0, gt=0, description="Least mean defocus of a micrograph in Å")
    defocus_max: float = Field(25000.0, gt=0, description="Largest mean defocus of a micrograph in Å")
    astigmatism: float = Field(300.0, ge=0, description="Largest difference of the two defocus values in Å")
    voltage: float = Field(300.0, gt=0, description="kV")
    spherical_aberration: float = Field(2.7, ge=0, description="mm")
    amplitude_contrast: float = Field(0.1, ge=0, le=1, description="Fraction")
    seed: int = Field(0, ge=0, description="Seed of every random choice")


class SimulateNoiseParameters(BaseModel):
    """Parameters of noise micrographs that look like given ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    count: int = Field(1, ge=1, description="Noise micrographs for each given one")
    method: Literal["gaussian", "phases"] = Field(
        "gaussian",
        description="gaussian: of the median spectrum of tiles; phases: the micrograph's own amplitudes, random phases",
    )
    pixel_size: float | None = Field(None, gt=0, description="Pixel size in Å; overrides the one in the data")
    tile: int = Field(128, ge=32, le=2048, description="Side of the tiles that the spectrum is measured on in px")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
