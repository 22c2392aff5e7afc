"""Parameters of simulated data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SimulateParticlesParameters(BaseModel):
    """Parameters of a simulated particle stack; every door builds this model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    map: str = Field("phantom", description="phantom, or a map file (MRC)")
    count: int = Field(1000, ge=1, description="Number of particle images")
    size: int = Field(64, ge=16, le=1024, description="Side of the boxes in px")
    pixel_size: float = Field(4.0, gt=0, description="Pixel size of the images in Å")
    radius: float | None = Field(
        None, gt=0, description="Particle radius in Å; default: of the map, or box / 3.6 for the phantom"
    )
    elongation: float = Field(1.0, ge=1, le=4, description="Length over width of the phantom")
    snr: float = Field(
        0.1, gt=0, description="Variance of the particle within its radius over the variance of the noise"
    )
    noise: Literal["white", "coloured", "like"] = Field("white", description="Noise; like: of a spectrum handed in")
    ctf: bool = Field(True, description="Apply a CTF with random defocus")
    views: str = Field("uniform", description="uniform, polar:DEG or equatorial:DEG")
    multiple_fraction: float = Field(0.0, ge=0, le=1, description="Share of boxes between two particles")
    noise_fraction: float = Field(0.0, ge=0, le=1, description="Share of boxes without a particle")
    partial_fraction: float = Field(0.0, ge=0, le=1, description="Share of boxes whose border cuts the particle")
    offset: float = Field(5.0, ge=0, description="Standard deviation of particle offsets along each axis in Å")
    amplitude_spread: float = Field(0.2, ge=0, lt=1, description="Amplitudes are uniform in 1 - spread ... 1 + spread")
    per_micrograph: int = Field(100, ge=1, description="Particles of each invented micrograph")
    defocus_min: float = Field(10000.0, gt=0, description="Least mean defocus of a micrograph in Å")
    defocus_max: float = Field(25000.0, gt=0, description="Largest mean defocus of a micrograph in Å")
    astigmatism: float = Field(300.0, ge=0, description="Largest difference of the two defocus values in Å")
    voltage: float = Field(300.0, gt=0, description="kV")
    spherical_aberration: float = Field(2.7, ge=0, description="mm")
    amplitude_contrast: float = Field(0.1, ge=0, le=1, description="Fraction")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
