"""Parameters of the outlier job."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_pickbias.outliers.verdicts import REASONS

__all__ = ["REASONS", "OutlierParameters"]


class OutlierParameters(BaseModel):
    """Parameters of the outlier job; every door builds this model and ``summary.json`` keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    radius: float | None = Field(None, gt=0, description="Particle radius in Å: half the longest extent")
    method: Literal["calibrated", "reference"] = Field(
        "calibrated", description="calibrated: error rates from the stack itself; reference: the published rule"
    )
    contrast: Literal["auto", "white", "black"] = Field("auto", description="Are particles bright or dark?")
    phase_flip: Literal["auto", "yes", "no"] = Field(
        "auto", description="Flip phases by the CTF; auto flips when the data carry a CTF and are not flipped yet"
    )
    false_keep_rate: float = Field(0.01, gt=0, lt=0.5, description="Share of pure noise that may be kept")
    pixel_size: float | None = Field(None, gt=0, description="Å; overrides the pixel size in the data")
    working_box: int | None = Field(None, ge=15, le=255, description="Side in px to which images are Fourier-cropped")
    remove_when_hopeless: bool = Field(
        False, description="Remove particles even where the signal is too weak to tell them from noise"
    )
    fit_images: int = Field(2000, ge=200, description="Images that the detector is learned from")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
    points: int = Field(10, ge=2, le=400, description="reference: A, the number of highest pixels")
    kernel_px: int | None = Field(None, ge=1, description="reference: k, kernel side; default int(0.3 d)")
    eps_px: float | None = Field(None, gt=0, description="reference: eps of DBSCAN; default the radius")
    min_points: int | None = Field(None, ge=1, description="reference: omega of DBSCAN; default round(A / 3)")
    edge_px: float | None = Field(None, gt=0, description="reference: T_E, the edge; default d - radius")
