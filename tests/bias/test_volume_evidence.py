"""Half-set FSC in three dimensions: noise stays within its null band in every shell, particles do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bias.scene import BOX, DISTANCE, GRID, LOWPASS, PIXEL, Scene, make_scene, micrograph, power_on

from napari_pickbias.bias.evidence import Frame, make_frame
from napari_pickbias.bias.volume_diagnosis import VolumeDiagnosis, diagnose_volume
from napari_pickbias.bias.volume_evidence import (
    GROUPS,
    VolumeSums,
    micrograph_volumes,
    patches_at,
    pick_noise,
    random_patches,
    treatment,
    volume_size,
)
from napari_pickbias.imaging.fourier import apply_filter
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.bank import soft_disc
from napari_pickbias.matching.noise_model import NoiseModel
from napari_pickbias.matching.preprocess import Prepared

SIZE, PICKS = 420, 150


class Room:
    """A bank of 24 views, its frame and its noise."""

    def __init__(self) -> None:
        self.scene: Scene = make_scene(directions=24, psi_step=30.0)
        euler = self.scene.bank.euler_deg
        sharp = project(fourier_volume(self.scene.volume), matrices_from_euler(euler))
        self.sharp = TemplateBank.from_images(sharp, soft_disc(BOX, 14.0)).images
        first = np.flatnonzero(euler[:, 2] == 0)
        self.frame: Frame = make_frame(self.scene.bank, self.sharp[first], PIXEL, LOWPASS, DISTANCE, (0.0,))
        power = power_on(GRID)
        self.noise = NoiseModel(power, power, "auto", (0,), 4.0, True)

    def prepared(self, rng: np.random.Generator, particles: int = 0) -> Prepared:
        image = micrograph(self.scene, SIZE, rng, particles, amplitude=14.0)
        inside = np.zeros(image.shape, bool)
        inside[20:-20, 20:-20] = True
        return Prepared(image, inside, 0.0)

    def sums(self, rng: np.random.Generator, particles: int = 0, **options: Any) -> VolumeSums:
        prepared = self.prepared(rng, particles)
        picks = pick_noise(prepared.image, prepared, self.noise, PICKS, self.frame, 1)
        options = {"repeats": 16, "twins": 1, "threads": 1, **options}
        return micrograph_volumes(prepared, self.noise, picks, self.frame, self.sharp, rng, **options)[0]

    def diagnosis(self, sums: VolumeSums) -> VolumeDiagnosis:
        return diagnose_volume(sums, self.frame.bands, np.eye(3)[None], BOX * PIXEL, 26 * PIXEL)


@pytest.fixture(scope="module")
def room() -> Room:
    return Room()


def test_noise_stays_within_its_band_and_particles_do_not(room: Room) -> None:
    rng = np.random.default_rng(0)
    noise, data = room.diagnosis(room.sums(rng, twins=4)), room.diagnosis(room.sums(rng, 120))
    shells = slice(1, room.frame.bands.beyond.last + 1)
    for curve in (noise.fsc_removed, *noise.twin_removed):
        mean, spread = noise.null_curves.mean(axis=0)[shells], noise.null_curves.std(axis=0, ddof=1)[shells]
        # 60 values: Student's law of 15 degrees of freedom exceeds 4.5 in one of 2,300
        assert np.abs((curve[shells] - mean) / spread).max() < 4.5
    # the plain curve is fooled, and by the whole pipeline on noise as well
    assert noise.plain[0] > 0.7
    assert noise.twin_plain_inside.min() > 0.7
    assert abs(noise.beyond.z) < 3.5
    assert abs(noise.twin_beyond.mean()) < 4 * noise.beyond.null_sd / np.sqrt(4)
    assert abs(noise.twin_inside.mean()) < 4 * noise.inside.null_sd / np.sqrt(4)
    assert np.abs(noise.twin_agreement).max() < 5 * noise.agreement.null_sd
    # seen over five seeds: 4.7 to 10.4, 11 to 20, 0.69 to 0.85
    assert data.beyond.z > 2.5
    assert data.agreement.z > 5
    assert data.relative_agreement > 0.2
    assert 100 < sum(data.picks) <= PICKS


def test_maps_of_picked_noise_are_the_template_and_nothing_is_left_of_it(room: Room) -> None:
    d = room.diagnosis(room.sums(np.random.default_rng(7)))

    def alike(one: str, other: str) -> float:
        return float(np.corrcoef(d.maps[one].ravel(), d.maps[other].ravel())[0, 1])

    assert alike("picks", "template") > 0.3
    assert alike("noise", "template") > 0.3
    assert abs(alike("picks_removed", "template")) < 0.15
    assert {volume.shape for volume in d.maps.values()} == {(volume_size(room.frame),) * 3}


def test_sums_of_micrographs_add(room: Room) -> None:
    one, two = (room.sums(np.random.default_rng(seed), repeats=2) for seed in (1, 2))
    wanted = one.plain + two.plain
    raw = one.raw.sum()
    one.add(two)
    np.testing.assert_allclose(one.plain, wanted)
    assert one.raw.sum() == pytest.approx(raw + two.raw.sum(), rel=1e-3)
    assert one.raw.shape[:2] == (2, GROUPS)
    assert one.counts.sum() == 2 * PICKS


def test_the_rest_of_patches_is_zero_on_average_on_noise(room: Room) -> None:
    rng = np.random.default_rng(3)
    prepared = room.prepared(rng)
    treated = treatment(room.noise, prepared.image.shape, room.frame)
    picks = pick_noise(prepared.image, prepared, room.noise, PICKS, room.frame, 1)
    picked = patches_at(prepared.image, picks, treated, room.frame)
    white = apply_filter(prepared.image, treated.whitening)
    anywhere = random_patches(prepared.image, white, prepared.inside, 1000, treated, room.frame, rng)
    spread = np.linalg.norm(anywhere, axis=(1, 2)).mean()
    templates = room.scene.bank.images[picks["template"]]
    # along the templates: a mean of PICKS patches of pure noise is 1 / sqrt(PICKS) of one
    assert np.linalg.norm(picked.removed.mean(axis=0)) < 1.5 * spread / np.sqrt(PICKS)
    assert np.linalg.norm(picked.plain.mean(axis=0)) > 1.5 * spread / np.sqrt(PICKS)
    assert templates.shape[0] == len(picked.label) == PICKS
