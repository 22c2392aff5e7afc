"""Soft modes of a map: what its images can hardly tell from it, at the amplitude that a test would still accept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Complexes, Floats, hermitian_weights, radial_frequency
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.softmodes.hessian import Hessian, rigid_generators
from napari_pickbias.softmodes.metric import riesz_metric, riesz_symbol
from napari_pickbias.softmodes.realign import realign
from napari_pickbias.softmodes.solver import Operator, Restart, dense_softest, finish, softest
from napari_pickbias.softmodes.symmetry import SymmetricHessian, Symmetriser
from napari_pickbias.softmodes.views import make_views, sample

LOG_ODDS = float(np.log(20.0))
"""Loss of log-likelihood at which a likelihood ratio of 20 to 1 rejects a map."""
NOISE_RATIO = 13.0
"""Variance of the noise over the mean energy of the projections, per pixel: what EMPIAR-10005 has."""
TRUSTED_MISFIT = 0.2
"""Relative error of the quadratic prediction, poses fitted anew, up to which it counts as valid."""
CHECKED_VIEWS = 192
DENSE_VOXELS = 400
"""Supports up to this size are solved by full matrices."""


@dataclass(frozen=True)
class SoftModes:
    """Soft modes of a map.

    ``k`` modes, ``J`` views, ``n`` the side of the box, ``q`` unknowns of a pose.

    Attributes
    ----------
    eigenvalues : ndarray, shape (k,)
        Information per image in the Riesz metric with poses free to adjust, rising; 1 is full information.
    known_pose_eigenvalues : ndarray, shape (k,)
        Of the same modes with poses held. Small: views are missing. Large: the poses' freedom makes the mode soft.
    residuals : ndarray, shape (k,)
        Of the eigenvalue problem, relative.
    modes : ndarray, shape (k, n, n, n)
        Of unit Riesz norm.
    amplitudes : ndarray, shape (k,)
        ``a``: the maps ``V + a u`` and ``V - a u`` lose ln 20 of log-likelihood.
    amplitude_fraction : ndarray, shape (k,)
        ``|a u| / |V|`` in the Riesz norm.
    uncertainty : ndarray, shape (n, n, n)
        Standard deviation of the map's voxels: the modes and, for all other directions, full information; 0 outside
        the support.
    pose_change : ndarray, shape (k, J, q)
        Poses that follow ``V + a u``: rotation vectors in the image's frame (radians), shifts (px), contrast.
    pose_sd : ndarray, shape (J, q)
        Standard deviation of each view's own pose, same units.
    misfit_ratio : ndarray, shape (k, 2)
        Loss of likelihood at ``V + a u`` and ``V - a u`` with poses fitted anew, over the quadratic prediction; 0 where
        that is no loss.
    noise_variance : float
        Per pixel, in the map's units.
    images : float
        Number of images that the views stand for.
    unsettled : float
        Views whose pose is no minimum of the misfit of their own image, where images were given.
    """

    eigenvalues: NDArray[np.float64]
    known_pose_eigenvalues: NDArray[np.float64]
    residuals: NDArray[np.float64]
    modes: NDArray[np.float64]
    amplitudes: NDArray[np.float64]
    amplitude_fraction: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    pose_change: NDArray[np.float64]
    pose_sd: NDArray[np.float64]
    misfit_ratio: NDArray[np.float64]
    noise_variance: float
    images: float
    unsettled: float = 0.0

    @property
    def pose_change_deg(self) -> NDArray[np.float64]:
        """``(k,)`` root mean square of the turns that follow each mode, degrees."""
        turns = np.linalg.norm(self.pose_change[:, :, :3], axis=2)
        return np.asarray(np.degrees(np.sqrt(np.mean(turns**2, axis=1))))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """``(k,)`` True where the mean loss at ``V +- a u`` is within :data:`TRUSTED_MISFIT` of the prediction."""
        return np.asarray(np.abs(self.misfit_ratio.mean(axis=1) - 1) <= TRUSTED_MISFIT)


def soft_modes(
    volume: Floats,
    rotations: Floats,
    ctf: Floats | None = None,
    weights: Floats | None = None,
    shifts: bool = True,
    mask: Floats | NDArray[np.bool_] | None = None,
    modes: int = 6,
    *,
    contrast: bool = False,
    noise_variance: float | None = None,
    rng: np.random.Generator | None = None,
    tolerance: float = 1e-3,
    iterations: int = 60,
    symmetry: Floats | None = None,
    coarsest_px: float | None = None,
    threads: int = 1,
    on_step: Callable[[], None] | None = None,
    restart: Restart | None = None,
    on_round: Callable[[Restart], None] | None = None,
    observed: Complexes | None = None,
) -> SoftModes:
    """Find the deformations of a map that its images can hardly tell from it.

    Only the map, the poses, the CTFs and the level of noise are needed; images may be given (docs/softmodes.md).

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
        Refined map.
    rotations : ndarray, shape (J, 3, 3)
        Active rotations of the views.
    ctf : ndarray, shape (J or 1, n, n // 2 + 1), or None
        Half-spectra of the CTF; None is 1.
    weights : ndarray, shape (J,), or None
        Images that each view stands for; None is 1.
    shifts, contrast : bool
        Unknowns of each pose besides its rotation.
    mask : ndarray, shape (n, n, n), or None
        Voxels of 0.5 and above may change; None is a ball one voxel smaller than the box.
    modes : int
        How many.
    noise_variance : float or None
        Per pixel of an image of this box, in the map's units; None is :data:`NOISE_RATIO` times the energy of the
        mean projection, per pixel.
    rng : numpy.random.Generator or None
        Of the start vectors and of the views that are fitted anew; None is a fixed one.
    symmetry : ndarray, shape (m, 3, 3), or None
        Rotations of the map's point group about the middle voxel ``n // 2``: only modes that keep it are looked for,
        as a refinement with imposed symmetry would allow. None is no symmetry.
    coarsest_px : float or None
        Wavelengths in voxels above which changes count as known: the lowest frequencies, which the CTF hides.
    threads : int
        Vectors, or views, worked at at a time; results do not depend on it.
    tolerance, iterations, on_step, restart, on_round
        As for :func:`~napari_pickbias.softmodes.solver.softest`.
    observed : ndarray, shape (J, p), or None
        The images themselves, by :func:`~napari_pickbias.softmodes.residuals.filtered_images` with the same weights:
        the Hessian then has its residual terms. Values below 0 may occur where the map does not suit the images.

    Raises
    ------
    ValueError
        If shapes do not fit, the mask is empty, or the map is zero within it.
    """
    volume = np.asarray(volume, np.float64)
    size = volume.shape[0]
    if volume.shape != (size,) * 3:
        raise ValueError(f"`volume` has shape {volume.shape}; it must be a cube")
    support = (soft_ball(size, size / 2 - 1) if mask is None else np.asarray(mask)) >= 0.5
    if support.shape != volume.shape or int(support.sum()) < 5 * (modes + 6):
        raise ValueError(f"`mask` leaves {int(support.sum())} voxels of {volume.shape}; it must hold the molecule")
    inside = np.where(support, volume, 0)
    if not np.any(inside):
        raise ValueError("`volume` is zero within the mask")
    rng = rng or np.random.default_rng(0)
    images = float(len(rotations) if weights is None else np.sum(weights))
    views = make_views(rotations, size, ctf=ctf, weights=weights)
    residuals = None if observed is None else sample(inside[None], views.points)[0] * views.filters - observed
    hessian = Hessian(
        inside, views, support, images=images, shifts=shifts, contrast=contrast, coarsest_px=coarsest_px,
        threads=threads, residuals=residuals,
    )  # fmt: skip
    rigid = rigid_generators(inside, support, shifts=shifts)
    symmetrise = None if symmetry is None or len(symmetry) == 1 else Symmetriser(symmetry, support)
    operator: Operator = hessian if symmetrise is None else SymmetricHessian(hessian, symmetrise)
    if int(support.sum()) <= DENSE_VOXELS:
        found = dense_softest(operator, modes, rigid)
    else:
        found = softest(
            operator, modes, rigid, rng, tolerance=tolerance, iterations=iterations, on_step=on_step, restart=restart,
            on_round=on_round,
        )  # fmt: skip
    if symmetrise is not None:
        # what the edge of the band left of other parts is taken out, and the value is the plain Hessian's
        even = symmetrise(found.modes)
        quotients = np.einsum("nk,nk->k", even, hessian(even)) / np.einsum("nk,nk->k", even, hessian.metric(even))
        found = finish(operator, quotients / images, even, rigid)
    vectors = found.modes
    energy = mean_energy(volume, support)
    variance = NOISE_RATIO * energy / size**2 if noise_variance is None else float(noise_variance)
    known = np.einsum("nk,nk->k", vectors, hessian.known_pose(vectors)) / images
    totals = np.maximum(found.eigenvalues, 1e-12) * images
    # along what the images do not hold in place at all, a change as large as the map itself stands in
    amplitudes = np.where(found.eigenvalues > 0, np.sqrt(2 * LOG_ODDS * variance / totals), np.sqrt(energy))
    change = hessian.pose_change(vectors * amplitudes)
    volumes = hessian.embed(vectors)
    counts = np.ones(len(rotations)) if weights is None else np.asarray(weights, np.float64)
    spread = np.sqrt(variance * counts[:, None] * np.einsum("jaa->ja", hessian.pose_covariance()))
    return SoftModes(
        eigenvalues=found.eigenvalues,
        known_pose_eigenvalues=np.asarray(known),
        residuals=found.residuals,
        modes=volumes,
        amplitudes=amplitudes,
        amplitude_fraction=amplitudes / np.sqrt(energy),
        uncertainty=_uncertainty(volumes, amplitudes**2 / (2 * LOG_ODDS), variance / images, support),
        pose_change=change,
        pose_sd=np.asarray(spread),
        misfit_ratio=_misfit_ratios(hessian, vectors * amplitudes, rng),
        noise_variance=variance,
        images=images,
        unsettled=float(hessian.unsettled.sum()),
    )


def information_along(
    volume: Floats,
    directions: Floats,
    rotations: Floats,
    ctf: Floats | None = None,
    weights: Floats | None = None,
    *,
    shifts: bool = True,
    contrast: bool = False,
    mask: Floats | NDArray[np.bool_],
    coarsest_px: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what views tell of given changes of a map: Rayleigh quotients with free and with known poses.

    Upper bounds of the softest eigenvalues, at the price of one product.

    Parameters
    ----------
    directions : ndarray, shape (k, n, n, n)
        Changes of the map.
    volume, rotations, ctf, weights, shifts, contrast, mask, coarsest_px
        As for :func:`soft_modes`.

    Returns
    -------
    free, known : ndarray, shape (k,)
        Per image, for unit Riesz norm.
    """
    support = np.asarray(mask) >= 0.5
    images = float(len(rotations) if weights is None else np.sum(weights))
    views = make_views(rotations, support.shape[0], ctf=ctf, weights=weights)
    inside = np.where(support, np.asarray(volume, np.float64), 0)
    hessian = Hessian(
        inside, views, support, images=images, shifts=shifts, contrast=contrast, dense=False,
        coarsest_px=coarsest_px,
    )  # fmt: skip
    vectors = np.ascontiguousarray(np.asarray(directions, np.float64)[:, support].T)
    norms = np.einsum("nk,nk->k", vectors, hessian.metric(vectors)) * images
    return (
        np.asarray(np.einsum("nk,nk->k", vectors, hessian(vectors)) / norms),
        np.asarray(np.einsum("nk,nk->k", vectors, hessian.known_pose(vectors)) / norms),
    )


def mean_energy(volume: Floats, support: NDArray[np.bool_]) -> float:
    """Return the energy (sum of squares over pixels) of a volume's projections, mean over uniform views."""
    vector = np.asarray(volume, np.float64)[support]
    return float(vector @ riesz_metric(support)(vector))


def _uncertainty(
    volumes: NDArray[np.float64], variances: NDArray[np.float64], floor: float, support: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the standard deviation of voxels; ``floor`` times the inverse metric's diagonal is what all have."""
    size = support.shape[0]
    band = radial_frequency((2 * size,) * 3) < 0.5
    white = floor * float(np.sum(hermitian_weights(2 * size) * band / riesz_symbol(size))) / (2 * size) ** 3
    total = np.einsum("k,kzyx->zyx", variances, volumes**2) + white
    return np.asarray(np.where(support, np.sqrt(total), 0))


def _misfit_ratios(hessian: Hessian, steps: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the loss of likelihood at ``V +- steps``, poses fitted anew, over the quadratic prediction."""
    views = hessian.views
    count = len(views.rotations)
    rows = np.sort(rng.choice(count, min(count, CHECKED_VIEWS), replace=False))
    chosen = views._replace(rotations=views.rotations[rows], filters=views.filters[rows])
    volumes = hessian.embed(steps)
    slices = hessian.slices_of(steps)[:, rows]
    parts = hessian.components(steps)[:, rows]
    change = hessian.pose_change(steps)[:, rows]
    images, residuals = hessian.slices[rows], hessian.residuals
    own = np.zeros_like(images) if residuals is None else residuals[rows]
    misfit = 0.5 * float(np.sum(np.abs(own) ** 2))
    ratios = np.empty((len(volumes), 2))
    for mode, step in enumerate(volumes):
        predicted = 0.5 * float(np.sum(np.abs(slices[mode]) ** 2) - np.sum(parts[mode] ** 2))
        # noisy images have a slope along the step as well, which is no matter of softness
        slope = float(np.sum((slices[mode].conj() * own).real))
        for column, sign in enumerate((1.0, -1.0)):
            fitted = realign(
                hessian.volume + sign * step,
                chosen,
                images - own,
                sign * change[mode],
                shifts=hessian.shifts,
                contrast=hessian.contrast,
                iterations=2 if residuals is None else 6,
            )
            loss = float(fitted.misfit.sum()) - misfit - sign * slope
            ratios[mode, column] = loss / predicted if predicted > 0 else 0
    return ratios
