"""Images of the soft-modes job: read in blocks, brought into the working box, and their poses settled."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_crop, hermitian_weights
from napari_pickbias.imaging.projection import half_disc, slice_points
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.softmodes_inputs import Problem, SoftmodesInputs
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.softmodes import SoftModes
from napari_pickbias.softmodes.realign import realign
from napari_pickbias.softmodes.residuals import filtered_images
from napari_pickbias.softmodes.views import make_views, sample

BLOCK = 128
"""Images read at a time."""
SETTLING_STEPS = 6
ODD_SCALE = 0.2
"""Relative difference of scale between images and map from which it is told."""


def check_images(inputs: SoftmodesInputs, parameters: SoftmodesParameters) -> None:
    """Refuse ``--images`` where the images cannot be those of the views, or of the map.

    Raises
    ------
    InputError
    """
    asked = {
        "--views": parameters.views, "--add-views": parameters.add_views, "--defocus": parameters.defocus,
        "--what-if": parameters.what_if,
    }  # fmt: skip
    for option, value in asked.items():
        if value:
            raise InputError(
                f"--images: there are no images of the views that {option} asks for; leave one of the two out"
            )
    boxes = np.unique(inputs.particles.images.box_sizes)
    side = inputs.volume.data.shape[0]
    if len(boxes) != 1 or boxes[0] != side:
        found = " and ".join(map(str, boxes))
        raise InputError(
            f"--images: the particles have {found} px, the map {side} voxels; give the map of their own box"
        )


def with_images(
    inputs: SoftmodesInputs, problem: Problem, parameters: SoftmodesParameters, notes: list[str]
) -> Generator[Progress, None, Problem]:
    """Return the problem with the images of its views, at poses that suit them; ``notes`` gathers warnings.

    One image stands for each view: the representative's. Images are read in blocks, so memory is that of the views.
    Poses are settled by Gauss-Newton steps, since the Hessian of the profile likelihood is one at best poses. Without
    ``--noise`` the level of noise is that of the residuals.

    Raises
    ------
    InputError
        A stack that is missing or damaged; images that do not look like the map.
    """
    rows = problem.bins.rows
    observed = []
    for start in range(0, len(rows), BLOCK):
        yield Progress("read", start, len(rows), "reading images")
        observed.append(_observed(inputs, problem, slice(start, start + BLOCK)))
    images = np.concatenate(observed)
    inside = np.where(problem.support, problem.working, 0)
    views = make_views(problem.rotations, problem.size, ctf=problem.filters(), weights=problem.weights)
    slices, around = sample(np.stack([inside, problem.working - inside]), views.points) * views.filters
    scale = float(np.sum((slices.conj() * images).real) / np.sum(np.abs(slices) ** 2))
    if not scale > 0:
        raise InputError(
            "--images: the images do not look like projections of the map at their poses; check that their contrast is "
            "the map's (particles white) and that the poses are of this map"
        )
    if abs(scale - 1) > ODD_SCALE:
        notes.append(f"the images are {scale:.3g} times as strong as the map's projections; they are divided by that")
    images = images / scale - around  # what lies outside the support is held
    yield Progress("settle", 0, 1, "settling poses")
    settled = realign(inside, views, images, shifts=parameters.shifts, iterations=SETTLING_STEPS)
    plane = slice_points(np.eye(3)[None], problem.size)[0][:2, 0]
    images = images * np.exp(1j * settled.shifts_px @ plane)
    turn = Rotation.from_matrix(settled.rotations @ problem.rotations.transpose(0, 2, 1)).magnitude()
    notes.append(
        f"one image stands for each of {len(rows)} views; settling their poses turned them by "
        f"{np.degrees(np.sqrt(np.mean(turn**2))):.2g}° (root mean square)"
    )
    variance = problem.variance
    if parameters.noise is None:
        variance = 2 * float(settled.misfit.sum()) / (float(problem.weights.sum()) * _coefficients(problem.size))
        notes.append("no --noise given: the noise is taken as white, at the level of the images' residuals")
    return replace(problem, rotations=settled.rotations, observed=images, variance=variance)


def unsettled_warning(found: SoftModes, problem: Problem) -> list[str]:
    """Return what a reader must know of modes that were found with images."""
    notes = []
    if found.unsettled:
        notes.append(
            f"{found.unsettled:.0f} of {len(problem.rotations)} poses are no minimum of their image's misfit; they "
            "count with their expected information"
        )
    if found.eigenvalues[0] <= 0:
        notes.append(
            "the softest value is not above 0: these images would rather have another map, or other poses; refine "
            "again, or leave out --images"
        )
    return notes


def _observed(inputs: SoftmodesInputs, problem: Problem, part: slice) -> NDArray[np.complex128]:
    """Return the filtered images of some views."""
    particles, rows, side = inputs.particles, problem.bins.rows[part], inputs.volume.data.shape[0]
    assert particles.poses is not None
    # density is kept when a map is resampled, so its projections shrink
    images = fourier_crop(particles.images.read(rows), problem.size) * (problem.size / side)
    factors = None if problem.noise is None else problem.noise.factors[problem.noise_group[part]]
    shifts = -particles.poses.shifts_angstrom[rows] / problem.voxel_size_angstrom
    return filtered_images(images, shifts, factors=factors, weights=problem.weights[part])


def _coefficients(size: int) -> float:
    """Return how many real numbers the disc of an image below Nyquist holds."""
    disc = half_disc(size)
    return float(np.broadcast_to(hermitian_weights(size), disc.shape)[disc].sum())
