"""The published outlier rule: where the highest pixels of a smoothed image lie decides.

Kapnulin, Heimowitz, Sharon, "Outlier Removal in Cryo-EM via Radial Profiles": the rule as its published program
applies it, which is not the rule that its text states (docs/outliers.md names each difference). One image:

1. The mean of the whole stack is subtracted, then the image is divided by its own maximum. Neither changes which
   pixels are highest, except that an image wholly darker than the stack's mean changes sign.
2. Correlation with ``h``, the sum of five Gaussians on a k x k grid, each of sum 1; periodic borders.
3. The ``A`` highest pixels, clustered by DBSCAN with reach ``eps`` and density ``omega``; the points that belong to
   no cluster are anomalies.
4. More than ``omega`` anomalies: pure noise.
5. All anomalies in the same band along one side, or the rounded centre of any cluster in a band along any side: a
   partial particle. The bands are the indices up to ``d - T_E`` and from ``T_E`` on.

The number of clusters does not matter: two particles are rejected only where one of them lies in a band.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, DTypeLike, NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.outliers.reference_decision import judge_maps
from napari_pickbias.outliers.verdicts import empty_columns

Columns = dict[str, NDArray[np.generic]]

GAUSSIAN_WIDTHS = (0.05, 0.15, 0.25, 0.35, 0.45)
"""Standard deviations of the five Gaussians in units of the kernel's side."""

BLOCK_IMAGES = 256
"""Images filtered at once: at 33 px a block and its transform stay in the processor's cache. A multiple of any vector
length of the FFT, so that an image is computed alike wherever it stands in a block."""

PAPER_OPTIONS = ("cluster_rule", "any_anomaly", "one_sided")
"""Options in which the paper's text departs from its program; all off by default."""


def radial_kernel(kernel_px: int) -> NDArray[np.float64]:
    """Return the published template: five isotropic Gaussians, each divided by its own sum, added.

    Parameters
    ----------
    kernel_px : int
        Side ``k`` of the square grid; the Gaussians are centred at ``(k - 1) / 2`` and their standard deviations are
        :data:`GAUSSIAN_WIDTHS` times ``k``.

    Returns
    -------
    ndarray, shape (k, k)
        Positive, of sum 5.
    """
    position = np.arange(kernel_px) - (kernel_px - 1) / 2
    kernel = np.zeros((kernel_px, kernel_px))
    for width in GAUSSIAN_WIDTHS:
        profile = np.exp(-0.5 * (position / (width * kernel_px)) ** 2)
        gaussian = np.outer(profile, profile)
        kernel += gaussian / gaussian.sum()
    return kernel


@dataclass(frozen=True)
class ReferenceDetector:
    """The published rule with all its numbers fixed; obeys :class:`~napari_pickbias.outliers.verdicts.Detector`.

    Parameters
    ----------
    box_px : int
        Side ``d`` of the square images.
    radius_px : float
        ``r``. The authors call it the approximate particle radius; their own choices are 0.5 to 0.65 of it, and a
        larger one is stricter.
    stack_mean : float
        Mean grey value of the stack the images come from (step 1). It matters for images only that are darker than
        it everywhere.
    kernel_px : int, optional
        ``k``, side of the template; ``int(0.3 d)`` as in the authors' program for real data. Their simulation takes
        ``round(0.3 d)``: 10 instead of 9 at ``d = 33``.
    points : int
        ``A``, number of highest pixels.
    eps_px : float, optional
        Reach of DBSCAN; ``r`` by default.
    min_points : int, optional
        ``omega``: points in reach, the point itself counted, that make a cluster, and the number of anomalies beyond
        which an image is noise; ``round(A / 3)`` by default.
    edge_px : float, optional
        ``T_E``, the pixel index at which the band at the far sides begins; the band at the near sides ends at
        ``d - T_E``. ``d - r`` by default.
    dark : bool
        Particles are darker than their surroundings (the program's ``--max_val``): the lowest pixels count. As in
        the program they are then visited in opposite order, which decides to whom a point between clusters belongs.
    cut_border : bool
        No highest pixel is taken nearer than ``k // 2`` to the border, and every band is wider by as much (the
        program's ``cut_landscape``).
    cluster_rule : bool
        Reject images with more than one cluster as ``multiple``: the paper's section 2.3. Neither its Algorithm 1
        nor its program does so.
    any_anomaly : bool
        One anomaly in any band suffices: line 15 of Algorithm 1. The program asks that all lie in the same band.
    one_sided : bool
        Only indices beyond ``T_E`` (not at it) count as edge: lines 15 and 17 of Algorithm 1 as printed.
    dtype : dtype
        float32 or float64: precision of the filter.

    Raises
    ------
    InputError
        A number out of its range, or a box not wider than twice the radius, which no particle could pass.
    """

    box_px: int
    radius_px: float
    stack_mean: float = 0.0
    kernel_px: int | None = None
    points: int = 10
    eps_px: float | None = None
    min_points: int | None = None
    edge_px: float | None = None
    dark: bool = False
    cut_border: bool = False
    cluster_rule: bool = False
    any_anomaly: bool = False
    one_sided: bool = False
    dtype: DTypeLike = np.float32
    _kernel: int = field(init=False, repr=False, compare=False)
    _eps: float = field(init=False, repr=False, compare=False)
    _omega: int = field(init=False, repr=False, compare=False)
    _edge: float = field(init=False, repr=False, compare=False)
    _border: int = field(init=False, repr=False, compare=False)
    _transfer: NDArray[np.complexfloating] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kernel = int(0.3 * self.box_px) if self.kernel_px is None else self.kernel_px
        resolved = {
            "dtype": np.dtype(self.dtype),
            "_kernel": kernel,
            "_eps": self.radius_px if self.eps_px is None else self.eps_px,
            "_omega": round(self.points / 3) if self.min_points is None else self.min_points,
            "_edge": self.box_px - self.radius_px if self.edge_px is None else self.edge_px,
            "_border": kernel // 2 if self.cut_border else 0,
        }
        for name, value in resolved.items():
            object.__setattr__(self, name, value)
        self._check()
        object.__setattr__(self, "_transfer", self._transfer_function())

    @property
    def parameters(self) -> dict[str, float | int | bool]:
        """All numbers of the rule as used, defaults filled in: for a summary."""
        return {
            "radius_px": self.radius_px,
            "stack_mean": self.stack_mean,
            "kernel_px": self._kernel,
            "points": self.points,
            "eps_px": self._eps,
            "min_points": self._omega,
            "edge_px": self._edge,
            **{name: getattr(self, name) for name in ("dark", "cut_border", *PAPER_OPTIONS)},
        }

    def evaluate(self, images: NDArray[np.float32]) -> Columns:
        """Return the columns of ``COLUMNS`` for ``(m, box_px, box_px)`` images.

        See :func:`reference_verdicts` for what they hold. Each image is judged by itself, to the last bit.

        Raises
        ------
        InputError
            When the images have another shape.
        """
        columns = self.judge(images)
        del columns["anomalies"], columns["clusters"]
        return columns

    def judge(self, images: ArrayLike) -> Columns:
        """Return what :meth:`evaluate` does and also ``anomalies`` and ``clusters``."""
        images = images if isinstance(images, np.ndarray) else np.asarray(images)
        if images.ndim != 3 or images.shape[1:] != (self.box_px, self.box_px):
            raise InputError(
                f"images: shape {images.shape} does not fit the detector; give (n, {self.box_px}, {self.box_px})"
            )
        n = len(images)
        columns = empty_columns(n)
        columns["anomalies"] = np.full(n, -1, np.int32)
        columns["clusters"] = np.full(n, -1, np.int32)
        _keep_freed_memory()
        scratch = np.empty((min(BLOCK_IMAGES, -(-n // 16) * 16), self.box_px, self.box_px), self.dtype)
        for start in range(0, n, BLOCK_IMAGES):
            rows = slice(start, min(start + BLOCK_IMAGES, n))
            self._judge_block(images[rows], scratch, {name: values[rows] for name, values in columns.items()})
        return columns

    def _judge_block(self, images: NDArray[np.generic], scratch: NDArray[np.floating], columns: Columns) -> None:
        """Fill the columns of one block."""
        count = len(images)
        block = scratch[: -(-count // 16) * 16]  # whole vectors only: see BLOCK_IMAGES
        block[count:] = 0
        images = images.astype(np.result_type(images.dtype, block.dtype), copy=False)
        np.subtract(images, np.asarray(self.stack_mean, images.dtype), out=block[:count], casting="same_kind")
        signs = self._signs(block)
        block[signs == 0] = 0
        maps = self._filter(block)
        found = np.full((count, 4), np.nan)
        judge_maps(
            maps[:count],
            signs[:count],
            self.points,
            self._border,
            self.dark,
            self._eps * self._eps,
            self._omega,
            *self._bands(),
            self.any_anomaly,
            self.cluster_rule,
            columns["reason"],
            columns["anomalies"],
            columns["clusters"],
            found,
        )
        columns["keep"][:] = columns["reason"] == 0
        # the centre of an even kernel lies between two pixels: its map is half a pixel up and left
        found += (0.0 if self._kernel % 2 else 0.5) - self.box_px // 2
        for i, name in enumerate(("center_y_px", "center_x_px", "second_y_px", "second_x_px")):
            columns[name][:] = found[:, i]
        columns["offset_px"][:] = np.hypot(found[:, 0], found[:, 1])

    def _filter(self, block: NDArray[np.floating]) -> NDArray[np.floating]:
        """Correlate images with the template; one axis after the other, since complex transforms work in place."""
        spectra = scipy.fft.rfft(block, axis=2, workers=1)
        spectra = scipy.fft.fft(spectra, axis=1, overwrite_x=True, workers=1)
        spectra *= self._transfer
        spectra = scipy.fft.ifft(spectra, axis=1, overwrite_x=True, workers=1)
        return scipy.fft.irfft(spectra, n=self.box_px, axis=2, overwrite_x=True, workers=1)  # type: ignore[no-any-return]

    def _signs(self, block: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return, for each image, the sign of the map whose highest pixels count; 0 where no ranking is possible."""
        flat = block.reshape(len(block), -1)
        highest, lowest = flat.max(axis=1), flat.min(axis=1)
        # no sum over pixels may overflow: what is not finite fails here too
        limit = np.finfo(block.dtype).max / (10 * flat.shape[1])
        usable = (highest < limit) & (lowest > -limit) & (highest > lowest)
        signs = np.where(usable, np.sign(highest), 0).astype(block.dtype)
        return -signs if self.dark else signs

    def _bands(self) -> tuple[float, float]:
        """Return the last index of the near bands and the first one of the far bands."""
        if self.one_sided:
            return -1.0, floor(self._edge) + 1.0 - self._border
        return float(self.box_px - self._edge + self._border), float(self._edge - self._border)

    def _transfer_function(self) -> NDArray[np.complexfloating]:
        """Fourier transform of the template, rolled back by half its side as the published program does."""
        padded = np.zeros((self.box_px, self.box_px))
        padded[: self._kernel, : self._kernel] = radial_kernel(self._kernel)
        transfer = scipy.fft.rfft2(np.roll(padded, -(self._kernel // 2), axis=(0, 1)))
        return transfer.astype(np.result_type(self.dtype, np.complex64))  # type: ignore[no-any-return]

    def _check(self) -> None:
        box, radius = self.box_px, self.radius_px
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise InputError(f"dtype: {self.dtype} is not a precision of the filter; use float32 or float64")
        if not radius > 0:
            raise InputError(f"radius_px: {radius:g} is not a radius; give one above 0")
        if not np.isfinite(self.stack_mean):
            raise InputError(f"stack_mean: {self.stack_mean:g} is not finite; leave damaged images out of the mean")
        if not box / 2 < self._edge < np.inf:
            raise InputError(
                f"radius_px: no particle of radius {radius:g} px passes in a box of {box} px"
                f" (edge at {self._edge:g} px); give a smaller radius or extract larger boxes"
            )
        if not 1 <= self._kernel <= box:
            raise InputError(f"kernel_px: {self._kernel} does not fit a box of {box} px; give 1 to {box}")
        free = max(box - 2 * self._border, 0) ** 2
        if not 2 <= self.points <= free:
            raise InputError(f"points: {self.points} pixels cannot be chosen from {free}; give 2 to {free}")
        if not self._eps > 0:
            raise InputError(f"eps_px: {self._eps:g} is not a reach; give one above 0")
        if not 1 <= self._omega < self.points:
            raise InputError(
                f"min_points: {self._omega} of {self.points} points cannot tell clusters from anomalies;"
                f" give 1 to {self.points - 1}"
            )


def fit_reference(images: ArrayLike, radius_px: float, **options: object) -> ReferenceDetector:
    """Return the rule for a stack: its mean is all that the rule learns.

    Parameters
    ----------
    images : array_like, shape (n, d, d)
        The stack, or a sample of it; pixels that are not finite do not count.
    radius_px : float
        ``r``.
    **options
        Further parameters of :class:`ReferenceDetector`.

    Raises
    ------
    InputError
        When the images are not a stack of square boxes, or an option is out of its range.
    """
    images = images if isinstance(images, np.ndarray) else np.asarray(images)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"images: shape {images.shape} is not a stack of square boxes; give (n, d, d)")
    options.setdefault("stack_mean", _finite_mean(images))
    return ReferenceDetector(images.shape[1], radius_px, **options)  # type: ignore[arg-type]


def reference_verdicts(
    images: ArrayLike,
    radius_px: float,
    *,
    kernel_px: int | None = None,
    points: int = 10,
    eps_px: float | None = None,
    min_points: int | None = None,
    edge_px: float | None = None,
    dark: bool = False,
    cut_border: bool = False,
    cluster_rule: bool = False,
    any_anomaly: bool = False,
    one_sided: bool = False,
    stack_mean: float | None = None,
    dtype: DTypeLike = np.float64,
) -> Columns:
    """Apply the published outlier rule to a stack of particle images.

    Parameters
    ----------
    images : array_like, shape (n, d, d)
        Phase-flipped particle images, particles bright unless ``dark``; grey values in any unit.
    radius_px : float
        ``r``; see :class:`ReferenceDetector` for this and the options not listed here.
    stack_mean : float, optional
        By default the mean of the images handed in. The authors hand in one micrograph at a time.

    Returns
    -------
    dict of ndarray, each of shape (n,)
        The columns of :data:`~napari_pickbias.outliers.verdicts.COLUMNS`, NaN where the rule has nothing to say, and
        ``anomalies`` and ``clusters``, int32 counts. ``reason`` is ``noise`` (too many anomalies), ``partial``
        (something in a band along the border) or, with ``cluster_rule`` only, ``multiple``; the first of them that
        holds. ``center_*`` and ``second_*`` are the unweighted mean positions of the first two clusters, from pixel
        ``d // 2``, px.

        An image that the rule cannot rank (it is constant, holds a pixel that is not finite or that overflows the
        precision, or its maximum equals the stack's mean) is rejected as noise, with counts of -1.

    Raises
    ------
    InputError
        When the images are not a stack of square boxes, or an option is out of its range.

    References
    ----------
    Kapnulin, Heimowitz, Sharon, "Outlier Removal in Cryo-EM via Radial Profiles", Algorithm 1 and section 2.3, and
    the program published with it, whose verdicts this function repeats.
    """
    images = images if isinstance(images, np.ndarray) else np.asarray(images)
    options: dict[str, object] = {} if stack_mean is None else {"stack_mean": stack_mean}
    detector = fit_reference(
        images,
        radius_px,
        kernel_px=kernel_px,
        points=points,
        eps_px=eps_px,
        min_points=min_points,
        edge_px=edge_px,
        dark=dark,
        cut_border=cut_border,
        cluster_rule=cluster_rule,
        any_anomaly=any_anomaly,
        one_sided=one_sided,
        dtype=dtype,
        **options,
    )
    return detector.judge(images)


def _keep_freed_memory() -> None:
    """Free a large array once, so that glibc keeps freed arrays of a block's size instead of returning them.

    Its threshold is the largest mapped array freed so far, up to 32 MiB. Below it the pages of every block would be
    faulted in anew, which costs as much as the filter. Other C libraries do not mind.
    """
    np.empty(30 << 20, np.uint8)


def _finite_mean(images: NDArray[np.generic]) -> float:
    """Mean of all finite pixels, block by block, so that a memory-mapped stack stays on disk."""
    total, count = 0.0, 0
    for start in range(0, len(images), BLOCK_IMAGES):
        block = images[start : start + BLOCK_IMAGES]
        finite = np.isfinite(block)
        total += float(np.sum(block, where=finite, dtype=np.float64))
        count += int(np.count_nonzero(finite))
    return total / count if count else 0.0
