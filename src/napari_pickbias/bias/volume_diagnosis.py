"""From the back-projections of all micrographs to maps, half-set correlations and their null bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.frc import Band, Bands, Null, reliability, summarise
from napari_pickbias.bias.reconstruction import density_filter, reconstruct, symmetrised
from napari_pickbias.bias.verdict import NONE_Z
from napari_pickbias.bias.volume_evidence import VolumeSums
from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.imaging.volumes import soft_ball

MASK = 0.6
"""Radius of the soft ball under which maps are compared, in diameters; it falls to zero over a further 0.15."""


@dataclass(frozen=True)
class VolumeDiagnosis:
    """Curves and maps of the diagnosis in three dimensions.

    Attributes
    ----------
    picks : tuple of int
        In each half.
    pixel_size : float
        Å, of the maps.
    frequency : ndarray, shape (s,)
        1/Å of each shell.
    fsc_plain, fsc_removed : ndarray, shape (s,)
        Half-set FSC of the picks.
    null_curves : ndarray, shape (R, s)
        Bias-removed FSC of random places of noise, with the angles and halves of the picks.
    null_low, null_high : ndarray, shape (s,)
        Normal 95 % band of these.
    twin_plain, twin_removed : ndarray, shape (T, s)
        Noise micrographs that went through the whole pipeline.
    inside, beyond : Null
        Mean bias-removed FSC over the shells of the template's band and beyond it.
    plain : tuple of float
        The same, plain.
    twin_inside, twin_beyond, twin_plain_inside, twin_agreement : ndarray, shape (T,)
    agreement : Null
        Of the bias-removed map with the equally treated unfiltered template, beyond the band.
    relative_agreement : float
        Over the map's own reliability; NaN where the evidence is below 2.5 deviations.
    small_mask : tuple of float
        Mean bias-removed FSC beyond the band under a ball of 0.7 diameters, and its null's mean and deviation.
    maps : dict of ndarray, shape (n, n, n)
        ``template``, ``noise`` (its reconstruction), ``picks``, ``noise_removed``, ``picks_removed``, ``unfiltered``,
        and the half maps ``half1``, ``half2``, ``half1_removed``, ``half2_removed``.
    """

    picks: tuple[int, int]
    pixel_size: float
    frequency: NDArray[np.float64]
    fsc_plain: NDArray[np.float64]
    fsc_removed: NDArray[np.float64]
    null_curves: NDArray[np.float64]
    null_low: NDArray[np.float64]
    null_high: NDArray[np.float64]
    twin_plain: NDArray[np.float64]
    twin_removed: NDArray[np.float64]
    inside: Null
    beyond: Null
    plain: tuple[float, float]
    twin_inside: NDArray[np.float64]
    twin_beyond: NDArray[np.float64]
    twin_plain_inside: NDArray[np.float64]
    twin_agreement: NDArray[np.float64]
    agreement: Null
    relative_agreement: float
    small_mask: Null
    maps: dict[str, NDArray[np.float32]]


def diagnose_volume(
    sums: VolumeSums, bands: Bands, group: Floats, box_angstrom: float, diameter_angstrom: float
) -> VolumeDiagnosis:
    """Return curves and maps.

    Parameters
    ----------
    sums : VolumeSums
        Over all micrographs.
    bands : Bands
        Of :class:`napari_pickbias.bias.evidence.Frame`; the maps have its extent, so its shells.
    group : ndarray, shape (s, 3, 3)
        Rotations of the map's point group.
    box_angstrom, diameter_angstrom : float
    """
    size = sums.plain.shape[-1]
    pixel = box_angstrom / size
    mask = comparison_mask(size, diameter_angstrom / pixel)
    small = _ball(size, 0.35 * diameter_angstrom / pixel)
    densities = [density_filter(symmetrised(kernel, group)) for kernel in sums.kernel]

    def halves(numerators: Floats, filters: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        made = [reconstruct(symmetrised(one, group), own) for one, own in zip(numerators, filters, strict=True)]
        return np.stack(made)

    plain, removed = halves(sums.plain, densities), halves(sums.removed, densities)
    raw = halves(sums.raw.sum(axis=1), densities)
    nulls = np.stack([halves(one, densities) for one in sums.null_removed])
    twins_plain, twins_removed = [], []
    twin_raw = np.zeros_like(plain[0])
    for number, kernels in enumerate(sums.twin_kernel):
        own = [density_filter(symmetrised(kernel, group)) for kernel in kernels]
        twins_plain.append(halves(sums.twin_plain[number], own))
        twins_removed.append(halves(sums.twin_removed[number], own))
        if number == 0:
            twin_raw = halves(sums.twin_raw[number].sum(axis=1), own).mean(axis=0)
    whole = density_filter(symmetrised(sums.kernel.sum(axis=0), group))
    sharp, sharp_plain, template = (
        reconstruct(symmetrised(one, group), whole) for one in (sums.sharp_removed, sums.sharp_plain, sums.template)
    )
    beyond = Band(bands.beyond.first, min(bands.beyond.last, round(2.25 * bands.inside.last)))

    def curve(pair: Floats, ball: Floats = mask) -> NDArray[np.float64]:
        return fourier_correlation(pair[0] * ball, pair[1] * ball, 3)

    def agreement(pair: Floats) -> float:
        return band_mean(fourier_correlation(pair.mean(axis=0) * mask, sharp * mask, 3), beyond)

    fsc_plain, fsc_removed = curve(plain), curve(removed)
    null_curves = np.stack([curve(pair) for pair in nulls])
    mean, spread = null_curves.mean(axis=0), null_curves.std(axis=0, ddof=1)
    twin_plain, twin_removed = (np.stack([curve(p) for p in pairs]) for pairs in (twins_plain, twins_removed))

    def against(band: Band, ball: Floats = mask) -> Null:
        values = np.array([band_mean(curve(pair, ball), band) for pair in nulls])
        return summarise(band_mean(curve(removed, ball), band), values)

    outside = against(bands.beyond)
    match = summarise(agreement(removed), np.array([agreement(pair) for pair in nulls]))
    # on a reliability that may be zero nothing can be divided
    reliable = reliability(outside.value) if outside.z >= NONE_Z else float("nan")
    seen = {
        "template": template, "noise": twin_raw, "picks": raw.mean(axis=0),
        "noise_removed": twins_removed[0].mean(axis=0), "picks_removed": removed.mean(axis=0),
        "unfiltered": sharp_plain, "half1": raw[0], "half2": raw[1],
        "half1_removed": removed[0], "half2_removed": removed[1],
    }  # fmt: skip
    return VolumeDiagnosis(
        (int(sums.counts[0]), int(sums.counts[1])),
        pixel,
        np.arange(len(fsc_plain)) / box_angstrom,
        fsc_plain,
        fsc_removed,
        null_curves,
        mean - 1.96 * spread,
        mean + 1.96 * spread,
        twin_plain,
        twin_removed,
        against(bands.inside),
        outside,
        (band_mean(fsc_plain, bands.inside), band_mean(fsc_plain, bands.beyond)),
        np.array([band_mean(c, bands.inside) for c in twin_removed]),
        np.array([band_mean(c, bands.beyond) for c in twin_removed]),
        np.array([band_mean(c, bands.inside) for c in twin_plain]),
        np.array([agreement(pair) for pair in twins_removed]),
        match,
        float((match.value - match.null_mean) / reliable) if np.isfinite(reliable) else float("nan"),
        against(bands.beyond, small),
        {name: np.asarray(volume, np.float32) for name, volume in seen.items()},
    )


def band_mean(curve: Floats, band: Band) -> float:
    """Return the mean of a curve over the shells of a band; NaN where there are none."""
    values = np.asarray(curve, np.float64)[band.first : band.last + 1]
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def comparison_mask(size: int, diameter_px: float) -> NDArray[np.float32]:
    """Return the soft ball under which maps of a particle are compared."""
    return _ball(size, MASK * diameter_px)


def _ball(size: int, radius_px: float) -> NDArray[np.float32]:
    radius = min(radius_px, 0.8 * size / 2)
    return soft_ball(size, radius, min(0.25 * radius, size / 2 - radius))
