"""RELION 5's tomograms.star in, particles.star out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile

from napari_pickbias.errors import InputError
from napari_pickbias.records import write_mrc
from napari_pickbias.records.tomograms import open_tomograms
from pickbias_relion.tomograms import write_tomogram_picks

STAR = """
data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoReconstructedTomogram{} #4
TS_01 1.35 8.0 Tomograms/job006/rec_TS_01.mrc
TS_03 1.35 8.0 Tomograms/job006/rec_TS_03.mrc
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Tomograms" / "job006"
    folder.mkdir(parents=True)
    for name in ("TS_01", "TS_03"):
        write_mrc(folder / f"rec_{name}.mrc", np.ones((3, 4, 5), np.float32), 10.8)
    return tmp_path


@pytest.mark.parametrize(("suffix", "notes"), [("", 0), ("Half1", 1)])
def test_the_list_names_tomograms_and_their_voxels(project: Path, suffix: str, notes: int) -> None:
    star = project / "Tomograms" / "job006" / "tomograms.star"
    star.write_text(STAR.format(suffix))
    found = open_tomograms(star)
    assert found.names == ("TS_01", "TS_03")
    assert found.voxel_size_angstrom == pytest.approx(10.8)
    assert found.list_file == star
    assert len(found.notes) == notes


def test_faults(project: Path) -> None:
    star = project / "tomograms.star"
    star.write_text(STAR.format("").replace("rec_TS_03", "gone"))
    with pytest.raises(InputError, match=r"names the tomogram 'Tomograms/job006/gone.mrc', which is not there; looked"):
        open_tomograms(star)
    star.write_text("data_particles\n\nloop_\n_rlnCoordinateX #1\n1.0\n")
    with pytest.raises(InputError) as fault:
        open_tomograms(star)
    assert str(fault.value) == (
        f"{star}: lists no reconstructed tomograms (rlnTomoName, rlnTomoReconstructedTomogram); give the "
        "tomograms.star of Reconstruct tomograms, or the .mrc files"
    )


def test_coordinates_count_from_the_tomograms_middle_in_angstrom(tmp_path: Path) -> None:
    values = {name: np.array([0.25, 0.5]) for name in ("rot_deg", "tilt_deg", "psi_deg", "p_value", "q_value", "score")}
    places = {"x_px": np.array([50.0, 60.0]), "y_px": np.array([40.0, 30.0]), "z_px": np.array([20.0, 21.5])}
    empty = {name: np.zeros(0) for name in {**places, **values}}
    centres = {"TS_01": (50.0, 40.0, 20.0), "TS_02": (50.0, 40.0, 20.0)}
    files = write_tomogram_picks(tmp_path, {"TS_01": {**places, **values}, "TS_02": empty}, centres, 10.0)
    assert set(files) == {"particles", "picks of TS_01"}
    table = starfile.read(files["particles"])
    assert table["rlnTomoParticleName"].tolist() == ["TS_01/1", "TS_01/2"]
    centred = table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(centred, [[0, 0, 0], [100, -100, 15]])
    plain = starfile.read(files["picks of TS_01"])
    np.testing.assert_allclose(plain[[f"rlnCoordinate{axis}" for axis in "XYZ"]], [[50, 40, 20], [60, 30, 21.5]])
    assert write_tomogram_picks(tmp_path, {"TS_02": empty}, centres, 10.0) == {}


def test_files_as_relion_5_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letter by letter: RELION 5's ``ParticleSet`` and ``OptimisationSet`` read these labels and this layout."""
    monkeypatch.chdir(tmp_path)
    job = tmp_path / "External" / "job012"
    job.mkdir(parents=True)
    columns = {"rot_deg": [10.0], "tilt_deg": [20.0], "psi_deg": [-30.5], "p_value": [1e-9], "q_value": [2.5e-7]}
    columns |= {"x_px": [61.0], "y_px": [30.5], "z_px": [20.25], "score": [9.87654]}
    arrays = {name: np.array(values) for name, values in columns.items()}
    star = tmp_path / "Tomograms" / "job 006" / "tomograms.star"
    centres = {"TS_01": (50.0, 40.0, 20.0)}
    files = write_tomogram_picks(job, {"TS_01": arrays}, centres, 10.8, tomograms_star=star)
    assert files["optimisation_set"].read_text() == (
        "\n# version 30001\n\ndata_\n\n_rlnTomoParticlesFile External/job012/particles.star\n"
        '_rlnTomoTomogramsFile "Tomograms/job 006/tomograms.star"\n\n'
    )
    assert starfile.read(files["optimisation_set"]) == {
        "rlnTomoParticlesFile": "External/job012/particles.star",
        "rlnTomoTomogramsFile": "Tomograms/job 006/tomograms.star",
    }
    assert files["particles"].read_text() == (
        "\n# version 30001\n\ndata_particles\n\nloop_\n_rlnTomoName #1\n_rlnTomoParticleName #2\n"
        "_rlnCenteredCoordinateXAngst #3\n_rlnCenteredCoordinateYAngst #4\n_rlnCenteredCoordinateZAngst #5\n"
        "_rlnAngleRot #6\n_rlnAngleTilt #7\n_rlnAnglePsi #8\n_rlnAutopickFigureOfMerit #9\n"
        "_pickbiasPValue #10\n_pickbiasQValue #11\n"
        "TS_01 TS_01/1 118.8 -102.6 2.7 10.0 20.0 -30.5 9.8765 1e-09 2.5e-07\n"
    )
