"""What soft modes mean for a map, in one word and one sentence."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.softmodes import SoftModes
from napari_pickbias.softmodes.coverage import SIDE_VIEWS, Coverage

LARGE_TURN_DEG = 5.0
UNSEEN = 0.005
"""Eigenvalue below which a direction counts as not seen: exact equatorial views stay above 0.007 in a tight mask."""
UNCONVERGED = 0.05
"""Residual above which an eigenvalue is said not to be final."""
SOFT = 0.2
"""Softest eigenvalue up to which a map counts as soft: uniform views of eight molecules at CTF 1 gave 0.26 to 0.41."""
COUPLED = 0.35
"""Share of the information that free poses leave, up to which a mode counts as hidden by them."""
HIDDEN = 0.1
"""Share of an ideal information up to which one map explains two sets of images about as well as two maps."""
BINNING = 0.2
"""Relative error by binning above which more views are advised."""

Code = Literal["determined", "missing_views", "polar", "coupled_poses", "equatorial", "faint", "spurious_difference"]


class Difference(NamedTuple):
    """What the images of a map tell of its difference from another map."""

    eigenvalue: float
    """Information per image along the difference, poses free."""

    known_pose_eigenvalue: float
    """The same, poses held."""

    share_in_modes: float
    """Share of its squared Riesz norm within the modes found."""

    size: float
    """Riesz norm over that of the map."""

    loss: float
    """Log-likelihood that the images of the map lose by the other map, poses free, to second order."""

    known_pose_loss: float
    """The same, poses held."""

    joint_share: float | None = None
    """What tells the two maps apart if one map may explain both sets, of what ideal sets would; None without both."""

    joint_loss: float | None = None
    """Log-likelihood by which two maps beat the one map that suits both sets best, to second order."""

    @property
    def hidden(self) -> bool:
        """True where one map would do for both sets of images; by one set alone, where its free poses hide most."""
        if self.joint_share is not None:
            return self.joint_share < HIDDEN
        return self.eigenvalue < COUPLED * self.known_pose_eigenvalue or self.known_pose_eigenvalue < SOFT


class Verdict(NamedTuple):
    """One word for scripts, one sentence for people."""

    code: Code
    text: str


def judge(found: SoftModes, views: Coverage, difference: Difference | None) -> Verdict:
    """Name what limits the map, or says that nothing does.

    Equatorial-only and polar-only sets are told by the directions of the views as well as by the softness they
    should cause; a difference between two maps that images hardly see is called what it may be, an artefact of
    splitting the data (paper section 24).
    """
    softest, known = float(found.eigenvalues[0]), float(found.known_pose_eigenvalues[0])
    axis = "(" + ", ".join(f"{value:.2f}" for value in views.axis) + ")"
    if difference is not None and difference.hidden and difference.joint_share is not None:
        return Verdict(
            "spurious_difference",
            f"the two maps differ by {difference.size:.0%}, but one map in between explains both sets of particles "
            f"almost as well: only {difference.joint_share:.1%} of what ideal sets would tell them apart is there; "
            "splitting the data of one molecule by view makes such pairs, so refine the two sets together",
        )
    if difference is not None and difference.hidden:
        return Verdict(
            "spurious_difference",
            f"the difference from the other map is {difference.size:.0%} of the map, and the images keep "
            f"{difference.eigenvalue / max(difference.known_pose_eigenvalue, 1e-300):.0%} of what they would tell of "
            "it if poses were known: such heterogeneity can come from splitting the data of one molecule by view; "
            "refine the two sets together before believing it",
        )
    left = softest / max(known, 1e-300)
    if views.kind == "polar" and softest < SOFT:
        return Verdict(
            "polar",
            f"all views lie near one axis, {axis} in the map's frame: {views.unseen:.0%} of Fourier space is seen by "
            "no image, and the map cannot be trusted along that axis; add side views or tilt the stage",
        )
    if views.kind == "equatorial" and softest < SOFT:
        return Verdict(
            "equatorial",
            f"all views lie about one axis, {axis} in the map's frame: every direction is seen, but the azimuths of "
            "the views can be re-labelled and another map explains the images almost as well; heterogeneity along the "
            "softest modes may be an artefact; views from elsewhere, or a tighter mask, are the cure",
        )
    if known < SOFT:
        if views.scf >= SIDE_VIEWS:
            return Verdict(
                "faint",
                "views are even, but the CTF or the noise leaves next to no information along the softest modes "
                "(the lowest frequencies at small defocus); --coarsest leaves those out",
            )
        return Verdict(
            "missing_views",
            "views are missing: the softest modes are hardly seen even with known poses; add views from the directions "
            "that the report shows as empty",
        )
    if softest < SOFT and left < COUPLED:
        return Verdict(
            "coupled_poses",
            "poses can re-adjust to a wrong map: the softest deformation is well covered by views but hidden by the "
            "freedom of the poses; heterogeneity along it may be an artefact",
        )
    return Verdict(
        "determined",
        "no deformation of the map is hidden by missing views or by the freedom of the poses beyond what is usual for "
        "even views; how far it is determined is the amplitude",
    )


def warnings_of(found: SoftModes, binning_error: NDArray[np.float64] | None) -> list[str]:
    """Return what a reader must know before the numbers are used, one line each."""
    notes = []
    if not found.valid.all():
        bad = ", ".join(str(i + 1) for i in np.flatnonzero(~found.valid))
        notes.append(
            f"mode {bad}: poses fitted anew at the full amplitude disagree with the quadratic picture, so its "
            "amplitude is an order of magnitude only"
        )
    loose = np.flatnonzero(found.residuals > UNCONVERGED)
    if len(loose):
        names = ", ".join(str(i + 1) for i in loose)
        notes.append(f"mode {names}: not converged, its eigenvalue is an upper bound; give more --iterations")
    turns = found.pose_change_deg
    if turns.max() > LARGE_TURN_DEG:
        notes.append(f"mode {int(turns.argmax()) + 1}: poses would turn by {turns.max():.1f}°, which is large")
    if found.eigenvalues[0] < UNSEEN or found.known_pose_eigenvalues[0] < 4 * UNSEEN:
        notes.append(
            "views are missing, or the CTF passes next to nothing: some directions are hardly seen even with known "
            "poses (polar views; the lowest frequencies at small defocus), so the map cannot be trusted along them"
        )
    if binning_error is not None and binning_error.max() > BINNING:
        notes.append(
            f"binning of views changes the value of mode {int(binning_error.argmax()) + 1} by "
            f"{binning_error.max():.0%}; give a larger --most-views"
        )
    return notes
