"""The score map: the best template at every pixel of a micrograph, in standard deviations of the noise."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.correlate import OUTSIDE, Real, Sheet, correlate, moments, normalise_locally
from napari_pickbias.matching.correlate_groups import correlate_groups
from napari_pickbias.matching.engine import EngineName, choose_inverse
from napari_pickbias.matching.prepared import PreparedBank, allowed_cores, prepare_bank
from napari_pickbias.matching.whitening import checked_power, whitened


def score_map(
    micrograph: Real,
    bank: TemplateBank | PreparedBank,
    threads: int | None = None,
    *,
    noise_sd: NDArray[np.floating] | None = None,
    whiten: NDArray[np.floating] | None = None,
    normalise: Literal["local", "global", "none"] = "local",
    border: Literal["exclude", "wrap"] = "exclude",
    engine: EngineName = "auto",
    rotation_basis: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the largest score over all templates at every pixel, and the template that gave it.

    The score of template ``x_l`` (zero mean, unit norm under the mask) centred at a pixel is
    ``<x_l, patch> / (s_l * sd)``: ``sd`` is the standard deviation of the patch under the mask
    (``normalise="local"``), of the whole micrograph (``"global"``) or 1 (``"none"``), and ``s_l`` is the standard
    deviation of ``<x_l, noise>`` for noise of unit variance (``noise_sd``; 1 for white noise). On pure noise a single
    template's scores have mean 0 and standard deviation 1. With a binary mask and white noise, ``score / sqrt(number
    of mask pixels)`` is the masked normalised cross-correlation.

    For micrographs that were normalised before, and for their surrogates: ``normalise="none"`` with
    ``noise_sd=bank.noise_sd(power)``, ``power`` in the micrograph's units, gives ``<x_l, patch> / s_l``; nothing is
    divided by a deviation of the image itself.

    With ``whiten`` micrograph and templates are both filtered by ``power ** -0.5``: the score is
    ``<x_l, z> / (s_l * sd)`` with ``z`` the patch of the micrograph divided by ``power`` in Fourier space, ``s_l`` the
    deviation that noise of this power has there, and ``sd`` that of the whitened micrograph.

    Parameters
    ----------
    micrograph : ndarray, shape (h, w)
        Any real type; particles bright.
    bank : TemplateBank or PreparedBank
        Templates, at the micrograph's pixel size. From :func:`prepare_bank` where many micrographs have one shape.
    threads : int, optional
        Default: all cores this process may use. The result does not depend on it.
    noise_sd : ndarray, shape (L,), optional
        ``s_l``, from :meth:`TemplateBank.noise_sd`. Not together with ``whiten``, which brings its own.
    whiten : ndarray, shape (n, n // 2 + 1), optional
        Power of the noise, in the micrograph's units squared, as :meth:`TemplateBank.noise_sd` takes it; ``n`` at
        least the box plus the reach of the inverse filter.
    border : {"exclude", "wrap"}
        Pixels whose box leaves the micrograph get ``-inf``; or the micrograph is periodic (Algorithm 2 of the paper).
    engine : {"auto", "scipy", "ducc0"}
        Who transforms: see :mod:`napari_pickbias.matching.engine`.
    rotation_basis : float
        Largest norm of what a basis shared by a view's rotations may leave out of a template, 0 for no such basis; how
        far scores can be off follows from :func:`napari_pickbias.matching.basis.score_bound`. A prepared bank brings
        its own.
    progress : callable, optional
        Called with the number of templates done and of all templates.

    Returns
    -------
    scores : ndarray, shape (h, w), float32
        A template of side ``b`` at pixel ``(y, x)`` covers rows ``y - b // 2`` to ``y - b // 2 + b - 1``.
    best : ndarray, shape (h, w), int32
        Number of the winning template (the first of equals); -1 where the score is ``-inf``.

    Raises
    ------
    InputError
        When the micrograph is smaller than a template, not finite, or constant, when the noise spectrum is not above
        zero, or the engine is not there.
    """
    inverse = choose_inverse(engine)
    workers = threads or allowed_cores()
    templates = bank.bank if isinstance(bank, PreparedBank) else bank
    if not isinstance(templates, TemplateBank):
        raise ValueError("`bank` holds templates of a tomogram; take score_volume")
    if micrograph.ndim != 2:
        raise InputError(f"micrograph: has {micrograph.ndim} axes; give one 2-D image")
    shape = (micrograph.shape[0], micrograph.shape[1])
    if min(shape) < templates.box_px:
        raise InputError(
            f"micrograph: is {shape[0]} x {shape[1]} px, smaller than the templates ({templates.box_px} px); "
            "check the pixel sizes"
        )
    if not isinstance(bank, PreparedBank):
        bank = prepare_bank(bank, shape, border=border, threads=workers, memory_mb=0, rotation_basis=rotation_basis)
    elif rotation_basis:
        raise ValueError("`rotation_basis` is given to `prepare_bank` where the bank is a prepared one")
    elif (bank.shape, bank.border) != (shape, border):
        raise ValueError(f"`bank` was prepared for {bank.shape} and border {bank.border!r}, not {shape} and {border!r}")
    with ThreadPoolExecutor(workers) as pool:
        sheet = _sheet(micrograph, templates, noise_sd, whiten, normalise, border, pool, workers)
        best = np.full(shape, OUTSIDE, np.float32)
        # half the traffic where the numbers fit
        which = np.full(shape, -1, np.int16 if len(templates) <= np.iinfo(np.int16).max else np.int32)
        correlate(sheet, bank, (best, which), inverse, pool, workers, progress)
        correlate_groups(sheet, bank, (best, which), inverse, pool, workers, progress)
        if normalise == "local":
            normalise_locally(sheet, bank, best, inverse, pool)
    return best, which.astype(np.int32)


def _sheet(
    micrograph: Real,
    bank: TemplateBank,
    noise_sd: NDArray[np.floating] | None,
    whiten: NDArray[np.floating] | None,
    normalise: str,
    border: str,
    pool: Executor,
    workers: int,
) -> Sheet:
    """Bring the micrograph to mean 0 and deviation 1, where single precision is at its best, and settle the units."""
    mean, sd = moments(micrograph, "micrograph", pool)
    sds = np.ones(len(bank)) if noise_sd is None else np.asarray(noise_sd, np.float64)
    if whiten is None:
        image, reference = micrograph, micrograph
        offset, factor = mean, 1 / sd
        unit = sd if normalise == "none" else 1.0
    else:
        if noise_sd is not None:
            raise ValueError("`noise_sd` and `whiten` exclude each other")
        power = checked_power(whiten)
        level = ((micrograph - np.float32(mean)) * np.float32(1 / sd)).astype(np.float32)
        reference, image = whitened(level, power / sd**2, threads=workers)
        offset, factor = 0.0, 1.0
        sds = bank.noise_sd(1 / power) * sd
        unit = 1 / float(reference.std(dtype=np.float64)) if normalise == "global" else 1.0
    corner: tuple[int, ...] = (bank.box_px // 2, bank.box_px // 2)
    if border == "wrap":
        before, after = bank.box_px // 2, bank.box_px - 1 - bank.box_px // 2
        same = reference is image
        image = np.pad(image, (before, after), mode="wrap")
        reference, corner = image if same else np.pad(reference, (before, after), mode="wrap"), (0, 0)
    shape = (micrograph.shape[0], micrograph.shape[1])
    return Sheet(
        image, reference, np.float32(offset), np.float32(factor), (unit / sds).astype(np.float32), corner, shape
    )
