"""Particles cut from a known micrograph tell which way its rows count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import write_mrc
from pickbias_cryosparc.convert import convert, cs_to_star
from pickbias_cryosparc.micrograph_y import _judged, check_micrograph_y

HEIGHT, WIDTH, BOX, N = 240, 300, 32, 24


@pytest.fixture
def picked(tmp_path, make_table, save_cs):
    """A job whose particles were cut, inverted and binned by 2 from a micrograph of structured noise."""

    def build(turned: bool = False, noise: float = 0.0):
        rng = np.random.default_rng(2)
        micrograph = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), 2.5).astype(np.float32)
        x, y = rng.uniform(BOX + 2, WIDTH - BOX - 2, N), rng.uniform(BOX + 2, HEIGHT - BOX - 2, N)
        cut = [micrograph[int(b) - BOX : int(b) + BOX, int(a) - BOX : int(a) + BOX] for a, b in zip(x, y, strict=True)]
        images = -np.stack([c.reshape(BOX, 2, BOX, 2).mean((1, 3)) for c in cut])
        images += noise * images.std() * rng.normal(size=images.shape)
        job = tmp_path / "J3"
        job.mkdir()
        write_mrc(job / "p.mrc", images, 2.0, stack=True)
        (tmp_path / "J2").mkdir()
        write_mrc(tmp_path / "J2/000000000000000000001_m_aligned_doseweighted.mrc", micrograph, 1.0)
        relion = tmp_path / "MotionCorr"
        relion.mkdir()
        write_mrc(relion / "m.mrc", micrograph[::-1] if turned else micrograph, 1.0)
        f4 = np.float32
        columns = {
            "uid": np.arange(1, N + 1, dtype="u8"),
            "blob/path": np.full(N, b"J3/p.mrc"),
            "blob/idx": np.arange(N, dtype="u4"),
            "blob/shape": np.full((N, 2), BOX, "u4"),
            "blob/psize_A": np.full(N, 2, f4),
            "location/micrograph_path": np.full(N, b"J2/000000000000000000001_m_aligned_doseweighted.mrc"),
            "location/micrograph_shape": np.tile(np.array([HEIGHT, WIDTH], "u4"), (N, 1)),
            "location/micrograph_psize_A": np.ones(N, f4),
            "location/center_x_frac": (x / WIDTH).astype(f4),
            "location/center_y_frac": (y / HEIGHT).astype(f4),
        }
        return save_cs(job / "p.cs", make_table(N, columns))

    return build


def test_the_same_file(picked):
    found = check_micrograph_y(picked(), np.random.default_rng(0))
    assert found.verdict == "same"
    assert found.particles == N
    assert found.same > 0.95  # binning by averaging is all that differs
    assert found.flipped < 0.5


@pytest.mark.parametrize(("turned", "verdict"), [(True, "flipped"), (False, "same")])
def test_relions_micrographs(picked, tmp_path, turned, verdict):
    """Noise of three times the signal, and names without CryoSPARC's prefix and suffix."""
    source = picked(turned, noise=3.0)
    found = check_micrograph_y(source, np.random.default_rng(0), micrographs=tmp_path / "MotionCorr", particles=20)
    assert found.verdict == verdict
    assert found.particles == 20


@pytest.mark.parametrize(("turned", "verdict"), [(True, "flipped"), (False, "same")])
def test_the_conversion_asks_the_images(picked, tmp_path, turned, verdict):
    source, folder = picked(turned), tmp_path / "MotionCorr"
    done = convert(source, tmp_path / "auto.star", micrograph_y="auto", micrographs=folder)
    cs_to_star(source, tmp_path / "told.star", micrograph_y=verdict)
    assert (tmp_path / "auto.star").read_text() == (tmp_path / "told.star").read_text()
    assert done.notes[0].startswith(f"micrograph y is '{verdict}': {N} particles compared with their micrographs")


def test_the_conversion_does_not_guess(picked, tmp_path):
    with pytest.raises(InputError) as caught:
        convert(picked(noise=1e4), tmp_path / "a.star", micrograph_y="auto")
    assert str(caught.value).startswith(f"--micrograph-y auto: {N} particles of p.cs cannot tell (mean correlation 0.")
    assert str(caught.value).endswith("give same or flipped")
    assert not (tmp_path / "a.star").exists()
    (tmp_path / "b.star").touch()
    with pytest.raises(InputError) as caught:
        convert(tmp_path / "b.star", tmp_path / "b.cs", micrograph_y="auto")
    assert str(caught.value) == "--micrograph-y auto: compares the images of CryoSPARC files; give same or flipped"


def test_pure_noise_is_undecided():
    """Without signal both ways score alike; 3 standard errors are passed 6 times in 1000 with 24 particles."""
    rng = np.random.default_rng(0)
    decided = sum(_judged(0.3 + 0.05 * rng.normal(size=(N, 2))).verdict != "undecided" for _ in range(1000))
    assert decided < 20  # 6 expected, 20 is 5.7 standard deviations above


def test_particles_of_another_micrograph_are_undecided(picked):
    assert check_micrograph_y(picked(noise=1e4), np.random.default_rng(0)).verdict == "undecided"


def test_too_few_particles_are_undecided():
    assert _judged(np.array([[0.9, 0.1], [0.9, 0.1]])).verdict == "undecided"
    assert _judged(np.array([[0.9, 0.1]] * 3)).verdict == "same"
    assert _judged(np.array([[0.1, 0.9]] * 3)).verdict == "flipped"


def test_no_locations_and_no_micrographs(picked, data_dir, tmp_path):
    source = data_dir / "cryosparc/empiar_10076_7.cs"
    with pytest.raises(InputError) as caught:
        check_micrograph_y(source, np.random.default_rng(0))
    assert str(caught.value) == (
        f"{source}: has no locations, so there is nothing to compare; give the job's .csg file"
    )
    source = picked()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        check_micrograph_y(source, np.random.default_rng(0), micrographs=tmp_path / "empty")
    name = "J2/000000000000000000001_m_aligned_doseweighted.mrc"
    assert str(caught.value) == (
        f"{source}: none of its micrographs (such as {name}) is in {tmp_path / 'empty'}; give their folder"
    )
