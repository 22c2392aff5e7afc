"""Which way the rows of a micrograph count: the particles themselves are asked.

CryoSPARC's picks count rows in the order of the MRC files that it read. RELION's own micrographs are the other way up
when it made them from TIFF or EER movies. A few particle images, compared with the micrograph at both places, tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import read_header
from napari_pickbias.records.volume import read_micrograph
from pickbias_cryosparc.group import Group, contained, open_group, plain
from pickbias_cryosparc.images import find_images, lazy_images
from pickbias_cryosparc.source import coordinates, micrograph_names, shortest
from pickbias_cryosparc.to_star import stripped

_REACH = 3
"""Pixels of the particle image by which a pick may be off: centres are rounded when particles are cut out."""
_NEEDED = 3.0
"""Standard errors by which one way must lead; the difference of means of independent particles."""


@dataclass(frozen=True)
class MicrographY:
    """What the comparison found.

    Attributes
    ----------
    verdict : {"same", "flipped", "undecided"}
        The value for ``--micrograph-y``.
    same, flipped : float
        Mean correlation of the particles with the micrograph at (x, y), and with the one turned over at (x, H − y).
    particles : int
        How many were compared.
    """

    verdict: Literal["same", "flipped", "undecided"]
    same: float
    flipped: float
    particles: int


def check_micrograph_y(
    source: str | Path, rng: np.random.Generator, *, micrographs: str | Path | None = None, particles: int = 40
) -> MicrographY:
    """Compare particle images with the micrographs that they were picked on.

    Parameters
    ----------
    source : str or Path
        Particle group with images and locations.
    rng : numpy.random.Generator
        Chooses the particles.
    micrographs : str or Path, optional
        Folder with the micrographs to ask about, such as RELION's MotionCorr output; file names are compared without
        CryoSPARC's uid prefix and without suffixes that either program adds. Default: those the group names.
    particles : int, default 40
        How many to compare; up to four micrographs are read.

    Returns
    -------
    MicrographY

    Raises
    ------
    InputError
        When there are no locations, or no micrograph or stack is found.
    """
    group = open_group(source)
    places, names = coordinates(group), micrograph_names(group)
    if places is None or names is None:
        raise InputError(f"{group.path}: has no locations, so there is nothing to compare; give the job's .csg file")
    images, _ = lazy_images(group, find_images(group))
    chosen = _choose(group, names, micrographs)
    budget = max(1, particles // len(chosen))
    scores: list[tuple[float, float]] = []
    for name, path in chosen.items():
        micrograph = read_micrograph(path)
        rows = np.flatnonzero(names == name)
        rows = np.sort(rng.permutation(rows)[: 3 * budget])  # some lie at the edge
        scale = _scale(group, int(rows[0]), path)
        found: list[tuple[float, float]] = []
        for row, image in zip(rows.tolist(), images.read(rows), strict=True):
            pair = (
                _correlation(image, micrograph, places[row], scale),
                _correlation(image, micrograph[::-1], places[row], scale),
            )
            if all(np.isfinite(pair)) and len(found) < budget:
                found.append(pair)
        scores += found
    return _judged(np.array(scores).reshape(-1, 2))


def _judged(scores: NDArray[np.float64]) -> MicrographY:
    if len(scores) < 3:
        return MicrographY("undecided", float("nan"), float("nan"), len(scores))
    same, flipped = scores.mean(axis=0)
    lead = scores[:, 0] - scores[:, 1]
    error = max(lead.std(ddof=1) / np.sqrt(len(lead)), 1e-6)
    verdict: Literal["same", "flipped", "undecided"] = "undecided"
    if abs(lead.mean()) > _NEEDED * error:
        verdict = "same" if lead.mean() > 0 else "flipped"
    return MicrographY(verdict, float(same), float(flipped), len(scores))


def _choose(group: Group, names: NDArray[np.str_], folder: str | Path | None) -> dict[str, Path]:
    """Return up to four micrographs with many particles, by their names."""
    unique, counts = np.unique(names, return_counts=True)
    found: dict[str, Path] = {}
    bases = [plain(group.folder), *plain(group.folder).parents]
    there = {} if folder is None else {p.stem: p for p in sorted(Path(folder).rglob("*.mrc"))}
    for name in unique[np.argsort(-counts, kind="stable")].tolist():
        inside = contained(name, f"{group.path}: its micrograph")
        if folder is None:
            path = next((b / inside for b in bases if (b / inside).is_file()), None)
        else:
            stem = Path(stripped(inside.name)).stem
            path = there.get(stem) or next((p for s, p in there.items() if stem.startswith(s)), None)
        if path is not None:
            found[name] = path
        if len(found) == 4:
            return found
    if not found:
        where = folder if folder is not None else "the project"
        raise InputError(
            f"{group.path}: none of its micrographs (such as {unique[0]}) is in {where}; give their folder"
        )
    return found


def _scale(group: Group, row: int, path: Path) -> float:
    """Return micrograph pixels per image pixel."""
    image = shortest(group.column("blob/psize_A")[row : row + 1])[0]
    if group.has("location/micrograph_psize_A"):
        return float(image / shortest(group.column("location/micrograph_psize_A")[row : row + 1])[0])
    header = read_header(path).pixel_size_angstrom
    return float(image / header) if header and header != 1 else 1.0


def _correlation(
    image: NDArray[np.float32], micrograph: NDArray[np.float32], place: NDArray[np.float64], scale: float
) -> float:
    """Return the highest correlation within reach, whatever the contrast; NaN where the box leaves the micrograph."""
    box = len(image)
    side = 2 * round(box * scale / 2)
    left, top = (int(c) - side // 2 for c in place)
    if min(left, top) < 0 or top + side > micrograph.shape[0] or left + side > micrograph.shape[1]:
        return float("nan")
    patch = micrograph[top : top + side, left : left + side].astype(np.float64)
    a, b = (_unit(fft.fft2(i - i.mean()), box) for i in (patch, image.astype(np.float64)))
    product = fft.ifft2(a * b.conj()).real * box**2
    near = np.roll(product, (_REACH, _REACH), (0, 1))[: 2 * _REACH + 1, : 2 * _REACH + 1]
    return float(np.abs(near).max())


def _unit(transform: NDArray[np.complex128], box: int) -> NDArray[np.complex128]:
    """Return the low frequencies that both images have, scaled to unit energy."""
    size = len(transform)
    half = min(box, size) // 2 - 1
    keep = np.r_[0 : half + 1, -half:0]
    low = np.zeros((box, box), np.complex128)
    low[np.ix_(keep, keep)] = transform[np.ix_(keep, keep)]
    energy = np.sqrt((np.abs(low) ** 2).sum())
    return low / energy if energy > 0 else low
