"""Noise spectra of RELION's model files, and particles whose stacks are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from pickbias_relion import read_particles
from pickbias_relion.noise import read_noise
from pickbias_relion.particles import RelionParticles

GENERAL = "data_model_general\n\n_rlnOriginalImageSize 8\n_rlnPixelSize 2.5\n\n"
LOOP = "loop_\n_rlnSpectralIndex #1\n_rlnSigma2Noise #2\n"


def block(name: str, values: list[float]) -> str:
    return f"data_model_{name}\n\n{LOOP}" + "".join(f"{i} {value:g}\n" for i, value in enumerate(values)) + "\n"


def write(folder: Path, model: str, label: str = "rlnOpticsGroup", groups: tuple[int, ...] = (1, 2, 1)) -> list[Path]:
    paths = [folder / "run_model.star", folder / "run_data.star"]
    paths[0].write_text(model)
    rows = "".join(f"{i + 1}@gone.mrcs {g} 10 20 30 2.5\n" for i, g in enumerate(groups))
    names = ["rlnImageName", label, "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnImagePixelSize"]
    head = "data_particles\n\nloop_\n" + "".join(f"_{name} #{i + 1}\n" for i, name in enumerate(names))
    paths[1].write_text(head + rows)
    return paths


def test_white_noise_of_variance_one_has_one_half_over_the_pixels_squared(tmp_path: Path) -> None:
    white = 1 / (2 * 8**2)
    paths = write(
        tmp_path, GENERAL + block("optics_group_1", [white] * 5) + block("optics_group_2", [4 * white, 0, white])
    )
    found = read_noise(*paths)
    np.testing.assert_allclose(found.variance, [[1, 1, 1, 1, 1], [4, 4, 1, 1, 1]])
    assert found.group.tolist() == [0, 1, 0]
    assert (found.box_px, found.pixel_size_angstrom, found.notes) == (8, 2.5, ())


def test_groups_of_micrographs_of_earlier_releases(tmp_path: Path) -> None:
    model = GENERAL + block("group_1", [1, 1]) + block("group_2", [0, 0]) + block("group_3", [2, 2])
    found = read_noise(*write(tmp_path, model, "rlnGroupNumber", (3, 1, 2)))
    np.testing.assert_allclose(found.variance / 128, [[1, 1], [2, 2]])
    assert found.group.tolist() == [1, 0, 0]
    assert "no noise spectrum of group 2; those 1 particles take that of the first" in found.notes[0]


@pytest.mark.parametrize(
    ("model", "label", "message"),
    [
        (GENERAL, "rlnOpticsGroup", "run_model.star: holds no noise spectra (rlnSigma2Noise); give the refinement's "),
        (
            GENERAL + block("group_7", [1, 1]),
            "rlnGroupNumber",
            "run_model.star: has no noise spectrum of any group of ",
        ),
        (
            GENERAL + block("group_1", [1, 1]) + block("group_2", [1, 1]),
            "rlnOpticsGroup",
            "run_data.star: has no column rlnGroupNumber, but ",
        ),
    ],
)
def test_what_is_no_model_of_these_particles_is_refused(tmp_path: Path, model: str, label: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_noise(*write(tmp_path, model, label))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_metadata_are_read_without_the_stacks(tmp_path: Path) -> None:
    _, path = write(tmp_path, GENERAL)
    with pytest.raises(InputError, match=r"names the stack 'gone\.mrcs', which is not there"):
        read_particles(path)
    found = RelionParticles(path).read_metadata()
    assert found.poses is not None
    np.testing.assert_allclose(found.poses.euler_deg, [[10, 20, 30]] * 3)
    assert found.pixel_size_angstrom.tolist() == [2.5] * 3
    assert found.images.box_sizes.tolist() == [0] * 3  # not stated, and not looked for


def test_the_spectra_of_a_real_refinement(data_dir: Path) -> None:
    folder = data_dir / "micrographs" / "betagal_10017"
    if not folder.is_dir():
        pytest.skip(f"the refined beta-galactosidase poses are not here ({folder})")
    found = read_noise(folder / "refine_model_relion1.star", folder / "refined_poses_relion1.star")
    assert found.variance.shape == (15, 51)
    assert found.group.shape == (3289,)
    # Images are normalised to a background of variance 1; their noise falls towards Nyquist.
    assert 0.05 < np.average(found.variance[:, 1:], axis=1, weights=np.arange(1, 51)).mean() < 2
    assert (found.variance[:, 5] > found.variance[:, 45]).all()
