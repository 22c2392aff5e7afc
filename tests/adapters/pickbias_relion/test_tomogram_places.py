"""Particles in tomograms, as RELION 3, 4 and 5 write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.records.mrc import write_mrc
from napari_pickbias.records.pick_tables import open_picks


def star(path: Path, labels: list[str], rows: list[str], optics: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"_{label} #{k}\n" for k, label in enumerate(labels, 1)) + "".join(f"{row}\n" for row in rows)
    path.write_text(f"{optics}\ndata_particles\n\nloop_\n{text}\n")
    return path


CENTRED = ["rlnTomoName", *(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"), "rlnAngleRot"]
LIST = (
    "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesPixelSize\n_rlnTomoTomogramBinning\n_rlnTomoSizeX\n"
    "_rlnTomoSizeY\n_rlnTomoSizeZ\n_rlnTomoReconstructedTomogram\nTS_01 2.0 4 100 80 40 Tomograms/t1.mrc\n"
    "TS_02 2.0 4 60 80 40 Tomograms/t2.mrc\n"
)


@pytest.fixture
def relion5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Tomograms").mkdir()
    write_mrc(tmp_path / "Tomograms" / "t1.mrc", np.zeros((10, 20, 25), np.float32), 8.0)
    (tmp_path / "Tomograms" / "tomograms.star").write_text(LIST)
    rows = ["TS_01 0 0 0 10", "TS_02 -10 5.5 1 11", "TS_01 100 80 40 12"]
    return star(tmp_path / "Refine3D" / "job007" / "run_data.star", CENTRED, rows)


def test_relion_5_counts_from_the_middle(relion5: Path) -> None:
    for name, target in (("a_optimisation_set.star", "gone"), ("run_optimisation_set.star", "Tomograms")):
        text = f"data_\n\n_rlnTomoParticlesFile x\n_rlnTomoTomogramsFile {target}/tomograms.star\n"
        (relion5.parent / name).write_text(text)
    table = open_picks(relion5).read()
    assert table.pixel_size_angstrom == 1.0
    # Half of 100 x 80 x 40 pixels of 2 Å is 100, 80, 40 Å; that of the second 60, 80, 40.
    assert table.coordinates_px.tolist() == [[100, 80], [50, 85.5], [200, 160]]
    assert table.z_px.tolist() == [40, 41, 80]
    assert table.micrograph_names == ("TS_01", "TS_02")
    assert table.micrograph_paths == (Path.cwd() / "Tomograms" / "t1.mrc", None)
    assert table.features["rlnAngleRot"].tolist() == [10, 11, 12]
    assert table.notes == ()
    assert not table.coordinate_columns


def test_without_a_size_places_count_from_the_middle_and_a_note_says_so(relion5: Path) -> None:
    table = open_picks(relion5).read()
    assert table.coordinates_px.tolist() == [[0, 0], [-10, 5.5], [100, 80]]
    (note,) = table.notes
    assert note.endswith(
        "the size of tomogram TS_01 is not known, so places count from its middle; put the optimisation_set.star or "
        "tomograms.star beside it"
    )
    (relion5.parent / "tomograms.star").write_text(LIST)
    assert open_picks(relion5).read().coordinates_px.tolist() == [[100, 80], [50, 85.5], [200, 160]]


def test_relion_4_counts_pixels_of_the_tilt_series(tmp_path: Path) -> None:
    labels = ["rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnImageName"]
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 1.35\n"
    table = open_picks(star(tmp_path / "p.star", labels, ["a 1 2 3 s/1.mrc", "b 4 5 6 s/2.mrc"], optics)).read()
    assert table.coordinates_px.tolist() == [[1, 2], [4, 5]]
    assert table.z_px.tolist() == [3, 6]
    assert table.pixel_size_angstrom == 1.35
    assert table.micrograph_names == ("a", "b")


def test_plain_picks_of_one_tomogram(tmp_path: Path) -> None:
    table = open_picks(star(tmp_path / "t_picks.star", [f"rlnCoordinate{a}" for a in "XYZ"], ["1 2 3"])).read()
    assert table.z_px.tolist() == [3]
    assert table.pixel_size_angstrom is None
    assert table.micrograph_names == ("t_picks",)


def test_real_files(data_dir: Path) -> None:
    folder = data_dir / "star"
    for name, pixel in (
        ("tomo5/cylindra__run_it025_data.star", 1.0),
        ("tomo4/cryoet-data-portal-backend__relion_4_star.star", 1.0),
        ("tomo4/napari-starfile__example_particles_with_optics.star", None),
        ("tomo3/subtomo2Chimera__run_data_empiar10064.star", 2.62),
    ):
        table = open_picks(folder / name).read()
        assert table.z_px is not None, name
        assert np.isfinite(table.z_px).all()
        assert table.pixel_size_angstrom == pixel, name
