"""Linear filters and small matrices that turn an image into likelihoods over particle centres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.outliers.covariance import NoiseModel
from napari_pickbias.outliers.factors import Factors, factor_images
from napari_pickbias.outliers.geometry import Geometry
from napari_pickbias.outliers.template import profile_image

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ParticleModel:
    """What is known of the particles: everything that the fit learns besides the noise.

    Attributes
    ----------
    profile : (n_r,) array
        Radial template m(r) at whole-pixel radii; the average particle has amplitude 1.
    factors : Factors
        Radial factors of the variation about it.
    amplitude_sd : float
        Prior standard deviation s_a of the amplitude.
    centre_sd : float
        Standard deviation sigma_c of the offset of central particles, pixels per axis.
    prior : (4,) array
        Prior probabilities of: one central particle, noise, off-centre particle, two particles.
    kappa : (n_bins,) array
        Excess variance of the second amplitude, per distance bin of R/4, in units of the first amplitude squared.
    """

    profile: FloatArray
    factors: Factors
    amplitude_sd: float
    centre_sd: float
    prior: FloatArray
    kappa: FloatArray


@dataclass(frozen=True)
class Operators:
    """Filters and tables of one fitted state; n centres, c of them in the core, K columns each.

    Attributes
    ----------
    filters : (d*d, n + c*K) float32 array
        Radial filters inv(T_t), then whitened core filters inv(Phi_t) L_t.
    energy : (n,) array
        e_t = T_t' inv T_t.
    offset, first_row : (c, K) arrays
        L' D^-1 theta0, and the first row of L (amplitude from whitened coefficients).
    constant : (c,) array
        1/2 log det D - log det L + 1/(2 s_a^2).
    cross_core : (c, n, K) float32 array
        H[t1, t] = T_t' inv(Phi_t1) L: what of a first particle at t1 shows in the filter at t.
    cross : (n, n) float32 array
        The same for first particles of amplitude only (K = 1), for centres outside the core.
    """

    geometry: Geometry
    filters: NDArray[np.float32]
    energy: FloatArray
    offset: FloatArray
    first_row: FloatArray
    constant: FloatArray
    cross_core: NDArray[np.float32]
    cross: NDArray[np.float32]

    @property
    def e0(self) -> float:
        """Squared detection SNR of an average particle."""
        return float(self.energy.max())


def build_operators(geometry: Geometry, noise: NoiseModel, model: ParticleModel, min_energy: float = 0.04) -> Operators:
    """Compute all filters for a noise model and a particle model.

    Centres whose template has less than ``min_energy`` of the box centre's energy are dropped.
    """
    d = geometry.box_px
    templates = profile_image(model.profile, d, geometry.centres)
    filters = templates @ noise.inverse
    energy = np.einsum("np,np->n", templates, filters)
    middle = int(np.argmin(geometry.centre_radius))
    use = energy >= min_energy * energy[middle]
    use[: geometry.n_core] = True
    geometry = geometry.keep_centres(use)
    templates, filters, energy = templates[use], filters[use], np.maximum(energy[use], 1e-12)

    c = geometry.n_core
    s2 = model.amplitude_sd**2
    phi = np.concatenate(
        [templates[:c, :, None], factor_images(model.factors, d, geometry.centres[:c])], axis=2
    )  # (c, d*d, K)
    K = phi.shape[2]
    prior_precision = 1 / np.concatenate([[s2], model.factors.column_variance()])
    flat = phi.transpose(1, 0, 2).reshape(d * d, c * K)
    inv_phi = (noise.inverse @ flat).reshape(d * d, c, K).transpose(1, 0, 2)
    precision = phi.transpose(0, 2, 1) @ inv_phi + np.diag(prior_precision)
    posterior = np.linalg.inv((precision + precision.transpose(0, 2, 1)) / 2)
    lower = np.linalg.cholesky((posterior + posterior.transpose(0, 2, 1)) / 2)
    core_filters = inv_phi @ lower
    first_row = np.ascontiguousarray(lower[:, 0, :])
    offset = first_row * prior_precision[0]
    log_det_lower = np.log(np.einsum("ckk->ck", lower)).sum(axis=1)
    constant = -0.5 * np.log(prior_precision).sum() - log_det_lower + 0.5 / s2
    flat = core_filters.transpose(1, 0, 2).reshape(d * d, c * K)
    cross_core = (templates @ flat).reshape(len(templates), c, K).transpose(1, 0, 2)
    cross = (filters @ templates.T) / np.sqrt(energy + 1 / s2)[:, None]
    return Operators(
        geometry,
        np.ascontiguousarray(np.concatenate([filters.T, flat], axis=1), dtype=np.float32),
        energy,
        offset,
        first_row,
        constant,
        np.ascontiguousarray(cross_core, dtype=np.float32),
        cross.astype(np.float32),
    )
