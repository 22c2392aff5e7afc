"""Templates for tomograms: exact rotations, wedge, band, and grids of orientations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import Blobs, blob_volume, phantom
from napari_pickbias.imaging.rotations import angular_distance_deg, random_rotations, rotation_count
from napari_pickbias.matching import volume_bank
from napari_pickbias.matching.views import symmetry_rotations
from napari_pickbias.matching.volume_bank import orientation_grid, seen_by_tilts


def molecule() -> Blobs:
    """The phantom, smooth enough for its grid: its own blobs are narrower than a voxel here."""
    blobs = phantom(7.0, count=9)
    return blobs._replace(sigmas_px=np.full(9, 1.6))


def turned(blobs: Blobs, rotation: np.ndarray) -> Blobs:
    return Blobs(blobs.centres_px @ rotation.T, blobs.sigmas_px, blobs.weights)


def normalised(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    centred = mask * (volume - (mask * volume).sum() / mask.sum())
    return centred / np.linalg.norm(centred)


@pytest.mark.parametrize("size", [24, 25])
def test_templates_are_the_turned_molecule(size: int) -> None:
    blobs = molecule()
    bank = volume_bank(blob_volume(blobs, size), 4.0, 60.0)
    for number in (0, 7, len(bank) - 1):
        expected = normalised(blob_volume(turned(blobs, bank.rotations[number]), size), bank.mask.astype(float))
        # single precision; seen: 1e-5
        np.testing.assert_allclose(bank.template(number), expected, rtol=0, atol=5e-5 * np.abs(expected).max())
        assert bank.template(number).sum() == pytest.approx(0, abs=1e-4)
        assert np.linalg.norm(bank.template(number)) == pytest.approx(1, abs=1e-5)


def test_the_wedge_is_what_no_tilt_has_seen() -> None:
    """A series of +-60 degrees sees two thirds of all directions about its axis; a plane is seen at its own tilt."""
    size = 48
    seen = seen_by_tilts(size, (-60.0, 60.0))
    z, _, x = np.broadcast_arrays(
        np.fft.fftfreq(size)[:, None, None], np.zeros((1, size, 1)), np.fft.rfftfreq(size)[None, None]
    )
    inside = (np.hypot(z, x) < 0.5) & (x > 0)
    assert seen[inside].mean() == pytest.approx(2 / 3, abs=0.02)
    assert seen[10, :, 10].all()  # 45 degrees
    assert not seen[20, :, 5].any()  # 76 degrees
    assert seen[0, :, 0].all()  # the axis
    assert not seen[5, :, 0].any()
    one_sided = seen_by_tilts(size, (0.0, 60.0))
    assert one_sided[5, :, 10].all()
    assert not one_sided[-5, :, 10].any()
    assert seen_by_tilts(size, (-90.0, 90.0)).all()


def test_wedge_and_band_are_in_the_tomograms_frame() -> None:
    blobs = molecule()
    bank = volume_bank(blob_volume(blobs, 32), 4.0, 90.0, tilt_range=(-60, 60), lowpass=20.0, mask_diameter=124.0)
    # without its mask a template has nothing where the filter is 0; the soft mask smears by a few frequencies
    spectrum = np.abs(np.fft.rfftn(bank.template(3))) ** 2
    beyond = np.sqrt(sum(a**2 for a in np.meshgrid(*([np.fft.fftfreq(32)] * 2), np.fft.rfftfreq(32), indexing="ij")))
    assert spectrum[beyond > 0.3].sum() < 1e-3 * spectrum.sum()
    assert spectrum[seen_by_tilts(32, (-75, 75)) == 0].sum() < 0.1 * spectrum.sum()
    whole = np.abs(np.fft.rfftn(volume_bank(blob_volume(blobs, 32), 4.0, 90.0).template(3))) ** 2
    assert spectrum[seen_by_tilts(32, (-75, 75)) == 0].sum() / spectrum.sum() < 0.5 * (
        whole[seen_by_tilts(32, (-75, 75)) == 0].sum() / whole.sum()
    )


@pytest.mark.parametrize("symmetry", ["C1", "C4", "D2", "T", "O", "I2"])
def test_orientations_are_kept_once_and_reach_everywhere(symmetry: str) -> None:
    step = 20.0
    group, grid = symmetry_rotations(symmetry), orientation_grid(step, symmetry)
    assert len(grid) == pytest.approx(rotation_count(step) / len(group), rel=0.25)
    probes = random_rotations(200, np.random.default_rng(1))
    distance = np.stack([angular_distance_deg((probes @ turn)[:, None], grid[None]) for turn in group]).min(axis=(0, 2))
    # Of an even grid with spacing 20 degrees a random orientation is 10.5 degrees away on average, 18 at most; the
    # borders of the group's domain add a few.
    assert distance.mean() < 12
    assert distance.max() < 24


def test_euler_angles_are_relions() -> None:
    bank = volume_bank(blob_volume(molecule(), 16), 4.0, 90.0)
    back = Rotation.from_euler("ZYZ", bank.euler_deg, degrees=True).as_matrix().transpose(0, 2, 1)
    np.testing.assert_allclose(back, bank.rotations, atol=1e-9)
    some = bank.take(np.array([2, 5]))
    np.testing.assert_array_equal(some.template(1), bank.template(5))


@pytest.mark.parametrize(
    ("volume", "options", "line"),
    [
        (np.ones((4, 4)), {}, "map: has shape (4, 4); it must be a cube"),
        (np.ones((8, 8, 8)), {}, "map: is constant or not finite; give the map of a particle"),
        (np.arange(512.0).reshape(8, 8, 8), {}, "map: has a side of 8 px; templates need at least 9"),
        (None, {"angular_step": 1.0}, "--angular-step 1: must lie in 2 to 180 degrees for tomograms"),
        (
            None,
            {"lowpass": 30.0, "highpass": 20.0},
            "--lowpass 30 --highpass 20: nothing is left between them; swap them",
        ),
        (
            None,
            {"mask_diameter": 200.0},
            "--mask-diameter 200: is 50.0 px; it must lie between 6 px and the map's 16 px (64 Å)",
        ),
        (None, {"tilt_range": (60.0, -60.0)}, "--tilt-range 60 -60: must rise and lie in -90 to 90 degrees"),
    ],
)
def test_faults(volume: np.ndarray | None, options: dict[str, float], line: str) -> None:
    given = blob_volume(molecule(), 16) if volume is None else volume
    with pytest.raises(InputError) as fault:
        volume_bank(given, 4.0, **{"angular_step": 60.0, **options})
    assert str(fault.value) == line
