"""Banks of projections: analytic projections, point groups in RELION's setting, fewer views of a symmetric map."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler, random_rotations
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.bank import soft_disc
from napari_pickbias.matching.views import symmetry_rotations, view_grid

ORDER = {"C1": 1, "C4": 4, "D3": 6, "T": 12, "O": 24, "I1": 60, "I2": 60}
WIDTH = 2.2


def blobs(points: np.ndarray, size: int) -> np.ndarray:
    """Gaussians of standard deviation ``WIDTH`` at points (x, y, z)."""
    z, y, x = np.mgrid[:size, :size, :size] - size // 2
    return np.sum([np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * WIDTH**2)) for a, b, c in points], 0)


def flat_blobs(points: np.ndarray, size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.sum([np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * WIDTH**2)) for a, b, _ in points], 0)


def test_templates_are_the_projections_of_the_turned_map() -> None:
    """The oracle is analytic: a Gaussian's projection is a Gaussian at the turned place."""
    points = np.array([[6.0, 1.0, -2.0], [-3.0, 5.0, 4.0], [0.0, -6.0, 3.0]])
    bank = TemplateBank.from_volume(blobs(points, 32), 2.0, 60.0, mask_diameter=52.0)
    rotations = matrices_from_euler(bank.euler_deg)
    assert len(bank) == 6 * len(np.unique(bank.view))
    expected = TemplateBank.from_images(
        np.stack([flat_blobs(points @ rotation.T, 32) for rotation in rotations]), soft_disc(32, 13.0)
    )
    np.testing.assert_allclose(bank.images, expected.images, rtol=0, atol=2e-4)
    assert bank.pixel_size_angstrom == 2.0
    assert bank.images.max() > 0.1


def test_filters_keep_the_band() -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(32, 32, 32)).astype(np.float32)
    bank = TemplateBank.from_volume(volume, 1.0, 90.0, lowpass=8.0, highpass=16.0)
    power = (np.abs(np.fft.rfft2(bank.images)) ** 2).mean(axis=0)
    shell = np.rint(32 * np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)[None])).astype(int)
    spectrum = np.bincount(shell.ravel(), power.ravel()) / np.bincount(shell.ravel())
    assert spectrum[7:16].max() < 0.01 * spectrum[3]  # beyond 8 A, shell 4 (the mask widens shells by one or two)
    assert spectrum[0] < 0.1 * spectrum[3]


@pytest.mark.parametrize("name", ORDER)
def test_groups_are_groups(name: str) -> None:
    group = symmetry_rotations(name)
    assert len(group) == ORDER[name]
    np.testing.assert_allclose(np.linalg.det(group), 1, atol=1e-9)
    products = np.einsum("aij,bjk->abik", group, group).reshape(-1, 3, 3)
    nearest = np.abs(products[:, None] - group[None]).max(axis=(2, 3)).min(axis=1)
    assert nearest.max() < 1e-9


@pytest.mark.parametrize(
    ("name", "degrees", "axis"),
    [
        ("C4", 90, (0, 0, 1)),
        ("D3", 120, (0, 0, 1)),
        ("D3", 180, (1, 0, 0)),
        ("T", 120, (0, 0, 1)),
        ("T", 180, (0, 0.8164966, 0.5773503)),
        ("O", 90, (0, 0, 1)),
        ("O", 120, (0.5773503, 0.5773503, 0.5773503)),
        ("I1", 72, (0.8506508, 0, -0.5257311)),
        ("I1", 180, (0, 0, 1)),
        ("I2", 72, (-0.5257311, 0, 0.8506508)),
        ("I2", 180, (0, 0, 1)),
        ("i", 72, (-0.5257311, 0, 0.8506508)),
    ],
)
def test_axes_are_relions(name: str, degrees: float, axis: tuple[float, float, float]) -> None:
    wanted = Rotation.from_rotvec(np.array(axis) * degrees, degrees=True).as_matrix()
    assert np.abs(symmetry_rotations(name) - wanted).max(axis=(1, 2)).min() < 1e-6


@pytest.mark.parametrize("name", ORDER)
def test_views_are_taken_once_and_cover_the_sphere(name: str) -> None:
    step = 8.0
    view, euler = view_grid(step, name)
    every = 45 * round(4 * np.pi / np.radians(step) ** 2)
    # the rim of the domain counts for small domains
    assert len(euler) == pytest.approx(every / ORDER[name], rel=0.04 * np.sqrt(ORDER[name]))
    assert view[-1] + 1 == len(euler) / 45
    directions = matrices_from_euler(euler[::45])[:, 2]
    images = np.einsum("sij,nj->sni", symmetry_rotations(name), directions).reshape(-1, 3)
    probes = random_rotations(400, np.random.default_rng(1))[:, 2]
    distance = np.degrees(np.arccos(np.clip((probes @ images.T).max(axis=1), -1, 1)))
    assert distance.max() < 1.5 * step


def test_a_symmetric_map_is_matched_as_well_with_fewer_views() -> None:
    """The full grid visits each view of the symmetric map six times, at six offsets, so it is a little finer."""
    group = symmetry_rotations("D3")
    symmetric = blobs(np.einsum("sij,j->si", group, [7.0, 2.0, 3.0]), 28)
    lopsided = blobs(np.array([[7.0, 2.0, 3.0], [-3.0, 5.0, 2.0], [2.0, -6.0, 4.0]]), 28)
    matches = {}
    for name, volume in (("symmetric", symmetric), ("lopsided", lopsided)):
        bank = TemplateBank.from_volume(volume, 1.0, 15.0, symmetry="D3")
        views = random_rotations(60, np.random.default_rng(2))
        particles = TemplateBank.from_images(project(volume, views), bank.mask)
        matches[name] = np.einsum("pij,lij->pl", particles.images, bank.images).max(axis=1)
    assert len(bank) == 744  # 4392 without symmetry
    # Over 8 seeds of the particles: means .967-.973 (full grid .981-.984), lowest .919-.940; lopsided .851-.883.
    assert matches["symmetric"].mean() > 0.96
    assert matches["symmetric"].min() > 0.9
    assert matches["lopsided"].mean() < 0.91


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"symmetry": "X2"}, "--symmetry X2: is not known; give C1, C2, ..., D2, ..., T, O, I1 or I2"),
        ({"angular_step": 0.1}, "--angular-step 0.1: must lie in 0.5 to 180 degrees"),
        (
            {"lowpass": 20.0, "highpass": 10.0},
            "--lowpass 20 --highpass 10: nothing is left between them; swap them",
        ),
        (
            {"mask_diameter": 50.0},
            "--mask-diameter 50: is 50.0 px; it must lie between 6 px and the map's 12 px (12 Å)",
        ),
    ],
)
def test_faults_of_options(options: dict[str, object], line: str) -> None:
    volume = np.random.default_rng(0).normal(size=(12, 12, 12))
    with pytest.raises(InputError) as fault:
        TemplateBank.from_volume(volume, 1.0, **{"angular_step": 30.0, **options})  # type: ignore[arg-type]
    assert str(fault.value) == line


def test_faults_of_maps() -> None:
    with pytest.raises(InputError, match=r"^map: has shape \(4, 5, 5\); it must be a cube$"):
        TemplateBank.from_volume(np.zeros((4, 5, 5)), 1.0, 30.0)
    with pytest.raises(InputError, match=r"^map: is constant or not finite; give the map of a particle$"):
        TemplateBank.from_volume(np.zeros((12, 12, 12)), 1.0, 30.0)


def test_a_tiny_map_is_refused() -> None:
    with pytest.raises(InputError, match=r"^map: has a side of 8 px; templates need at least 9$"):
        TemplateBank.from_volume(np.arange(512.0).reshape(8, 8, 8), 4.0, 30.0)
