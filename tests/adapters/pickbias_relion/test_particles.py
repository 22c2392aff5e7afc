"""RELION particle sets to records: pixel sizes, CTF, poses, stacks, for each version's way of saying it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records import CtfParameters, Poses
from napari_pickbias.records import open_particles as open_any
from pickbias_relion import open_particles, read_particles
from pickbias_relion.particles import RelionParticles
from pickbias_relion.star_write import write_particles

BOX = 8


def stack(path: Path, n: int = 3, box: int = BOX) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(len(path.name)).normal(size=(n, box, box)).astype(np.float32)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(images)
    return images


def loop(block: str, columns: dict[str, list[object]]) -> str:
    labels = "".join(f"_{label} #{k}\n" for k, label in enumerate(columns, 1))
    rows = "".join(" ".join(str(v) for v in row) + "\n" for row in zip(*columns.values(), strict=True))
    return f"\ndata_{block}\n\nloop_\n{labels}{rows}"


IMAGES = {"rlnImageName": ["000001@s.mrcs", "000002@s.mrcs", "000003@s.mrcs"]}
CTF = {"rlnDefocusU": [20000, 21000, 22000], "rlnDefocusV": [19000, 20000, 21000], "rlnDefocusAngle": [5, 6, 7]}
OPTICS = {
    "rlnOpticsGroup": [7, 3],
    "rlnOpticsGroupName": ["early", "late"],
    "rlnImagePixelSize": [1.5, 2.5],
    "rlnVoltage": [300, 200],
    "rlnSphericalAberration": [2.7, 1.4],
    "rlnAmplitudeContrast": [0.1, 0.07],
}


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Write a STAR file beside a stack of three images; return its path."""

    def write(*blocks: str, name: str = "particles.star") -> Path:
        stack(tmp_path / "s.mrcs")
        path = tmp_path / name
        path.write_text("".join(blocks))
        return path

    return write


def fault(path: Path, pixel_size: float | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_particles(path, pixel_size)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path}: ", "")


def test_a_relion_31_set(project: Callable[..., Path]) -> None:
    rows = {**IMAGES, **CTF, "rlnOpticsGroup": [3, 7, 3], "rlnMicrographName": ["m1", "m1", "m2"]}
    rows |= {"rlnPhaseShift": [0, 90, 45], "rlnCoordinateX": [10, 20, 30], "rlnCoordinateY": [1, 2, 3]}
    particles = read_particles(project(loop("optics", OPTICS), loop("particles", rows)))
    assert len(particles) == 3
    assert particles.optics_group_names == ("early", "late")
    assert particles.optics_group.tolist() == [1, 0, 1]
    assert particles.pixel_size_angstrom.tolist() == [2.5, 1.5, 2.5]
    ctf = particles.ctf
    assert ctf is not None
    assert ctf.voltage_kv.tolist() == [200, 300, 200]
    assert ctf.spherical_aberration_mm.tolist() == [1.4, 2.7, 1.4]
    assert ctf.amplitude_contrast.tolist() == [0.07, 0.1, 0.07]
    assert ctf.defocus_u_angstrom.tolist() == [20000, 21000, 22000]
    assert ctf.defocus_v_angstrom.tolist() == [19000, 20000, 21000]
    assert ctf.defocus_angle_deg.tolist() == [5, 6, 7]
    assert ctf.phase_shift_deg.tolist() == [0, 90, 45]
    assert particles.micrograph is not None
    assert particles.micrograph.tolist() == ["m1", "m1", "m2"]
    assert particles.micrograph.dtype.kind == "U"
    assert particles.coordinates_px is not None
    assert particles.coordinates_px.tolist() == [[10, 1], [20, 2], [30, 3]]
    assert particles.poses is None
    assert not particles.phase_flipped
    assert particles.notes == ()


def test_a_relion_30_set(project: Callable[..., Path]) -> None:
    rows = {**IMAGES, **CTF, "rlnVoltage": [300] * 3, "rlnSphericalAberration": [2] * 3}
    rows |= {"rlnAmplitudeContrast": [0.1] * 3, "rlnMagnification": [50000, 50000, 40000]}
    rows |= {"rlnDetectorPixelSize": [5] * 3, "rlnOriginX": [1, -2, 3], "rlnOriginY": [0, 0, 0.5]}
    rows |= {"rlnAngleRot": [10, 20, 30], "rlnAngleTilt": [40, 50, 60], "rlnAnglePsi": [70, 80, 90]}
    particles = read_particles(project(loop("", rows)))
    np.testing.assert_allclose(particles.pixel_size_angstrom, [1, 1, 1.25], rtol=1e-15)
    assert particles.optics_group_names == ("opticsGroup1",)
    assert particles.optics_group.tolist() == [0, 0, 0]
    assert particles.poses is not None
    assert particles.poses.euler_deg.tolist() == [[10, 40, 70], [20, 50, 80], [30, 60, 90]]
    np.testing.assert_allclose(particles.poses.shifts_angstrom, [[1, 0], [-2, 0], [3.75, 0.625]], rtol=1e-15)
    assert particles.ctf is not None
    assert particles.ctf.voltage_kv.tolist() == [300] * 3


def test_origins_in_angstrom_come_first(project: Callable[..., Path]) -> None:
    angles = {"rlnAngleRot": [0] * 3, "rlnAngleTilt": [0] * 3, "rlnAnglePsi": [0] * 3}
    origins = {"rlnOriginXAngst": [4, 5, 6], "rlnOriginYAngst": [7, 8, 9]}
    pixels = {"rlnOriginX": [1] * 3, "rlnOriginY": [1] * 3}
    particles = read_particles(project(loop("p", {**IMAGES, **angles, **pixels, **origins})), 2.0)
    assert particles.poses is not None
    assert particles.poses.shifts_angstrom.tolist() == [[4, 7], [5, 8], [6, 9]]
    particles = read_particles(project(loop("p", {**IMAGES, **angles, **pixels})), 2.0)
    assert particles.poses is not None
    assert particles.poses.shifts_angstrom.tolist() == [[2, 2]] * 3
    particles = read_particles(project(loop("p", {**IMAGES, **angles})), 2.0)
    assert particles.poses is not None
    assert particles.poses.shifts_angstrom.tolist() == [[0, 0]] * 3
    assert read_particles(project(loop("p", {**IMAGES, "rlnAnglePsi": [1] * 3})), 2.0).poses is None


def test_pixel_sizes(project: Callable[..., Path]) -> None:
    assert read_particles(project(loop("p", {**IMAGES, "rlnPixelSize": [1.1] * 3}))).pixel_size_angstrom[0] == 1.1
    assert read_particles(project(loop("p", {**IMAGES, "rlnPixelSize": [1.1] * 3})), 9.0).pixel_size_angstrom[0] == 9
    assert fault(project(loop("p", IMAGES))) == (
        "no pixel size: data_p and data_optics have neither rlnImagePixelSize, rlnPixelSize nor rlnDetectorPixelSize "
        "with rlnMagnification; give --pixel-size"
    )
    assert fault(project(loop("p", {**IMAGES, "rlnImagePixelSize": [1, 0, 1]}))) == (
        "rlnImagePixelSize is 0 for line 8, which cannot be; correct it or give --pixel-size"
    )
    rows = {**IMAGES, "rlnDetectorPixelSize": [5] * 3, "rlnMagnification": [1e4, 1e4, 0]}
    assert fault(project(loop("p", rows))).startswith("rlnMagnification is 0 for line 10")
    for wrong in (0.0, -1.0, float("nan")):
        assert fault(project(loop("p", IMAGES)), wrong) == f"--pixel-size {wrong}: must be a number above 0, in Å"


def test_what_the_ctf_lacks(project: Callable[..., Path]) -> None:
    rows = {**IMAGES, "rlnPixelSize": [1] * 3}
    assert read_particles(project(loop("p", rows))).ctf is None
    particles = read_particles(path := project(loop("p", {**rows, **CTF})))
    assert particles.ctf is None
    assert particles.notes == (f"{path}: has defocus values but no rlnVoltage, so its CTF is unknown",)
    rows |= {"rlnDefocusU": [1000] * 3, "rlnVoltage": [300] * 3}
    particles = read_particles(path := project(loop("p", rows)))
    assert particles.ctf is not None
    assert particles.ctf.defocus_v_angstrom.tolist() == [1000] * 3
    assert particles.ctf.defocus_angle_deg.tolist() == particles.ctf.phase_shift_deg.tolist() == [0] * 3
    assert particles.ctf.spherical_aberration_mm.tolist() == particles.ctf.amplitude_contrast.tolist() == [0] * 3
    assert particles.notes == (
        f"{path}: has no rlnSphericalAberration; taken as 0, as RELION does",
        f"{path}: has no rlnAmplitudeContrast; taken as 0, as RELION does",
    )
    assert fault(project(loop("p", {**rows, "rlnDefocusU": [1, "nan", 2]}))) == (
        "line 10, column rlnDefocusU: 'nan' is not a number; correct that value"
    )


def test_optics_groups_that_do_not_fit(project: Callable[..., Path]) -> None:
    optics = loop("optics", OPTICS)
    assert fault(project(optics, loop("p", {**IMAGES, "rlnOpticsGroup": [3, 4, 7]}))) == (
        "line 20 belongs to optics group 4, which data_optics does not list; add that group to data_optics"
    )
    assert fault(project(optics, loop("p", IMAGES))) == (
        "data_p has no column rlnOpticsGroup, but data_optics lists 2 groups; add the column"
    )


def test_optics_without_names_and_numbers_and_as_a_list(project: Callable[..., Path]) -> None:
    one = loop("optics", {"rlnImagePixelSize": [1.5]})
    particles = read_particles(project(one, loop("p", {**IMAGES, "rlnOpticsGroup": [1] * 3})))
    assert particles.optics_group_names == ("opticsGroup1",)
    listed = "data_optics\n_rlnOpticsGroup 4\n_rlnImagePixelSize 2.5\n_rlnImageSize 8\n"
    particles = read_particles(project(listed, loop("p", {**IMAGES, "rlnOpticsGroup": [4] * 3})))
    assert particles.pixel_size_angstrom.tolist() == [2.5] * 3
    assert particles.optics_group_names == ("opticsGroup4",)
    listed = listed.replace("2.5", "wide")
    assert fault(project(listed, loop("p", IMAGES))) == (
        "data_optics, key rlnImagePixelSize: 'wide' is not a number; correct that value"
    )


def test_a_table_after_a_cut_that_lost_its_optics(project: Callable[..., Path]) -> None:
    particles = read_particles(project(loop("p", {**IMAGES, "rlnOpticsGroup": [2, 2, 3]})), 1.0)
    assert particles.optics_group.tolist() == [0, 0, 0]


def test_flags_of_the_images(project: Callable[..., Path]) -> None:
    flags = {"rlnCtfDataAreCtfPremultiplied": [1, 0], "rlnCtfDataArePhaseFlipped": [0, 0]}
    rows = loop("p", {**IMAGES, "rlnOpticsGroup": [3, 7, 3]})
    particles = read_particles(path := project(loop("optics", {**OPTICS, **flags}), rows))
    assert particles.notes == (
        f"{path}: the images are multiplied by their CTF already (rlnCtfDataAreCtfPremultiplied)",
    )
    assert not particles.phase_flipped
    flags = {"rlnCtfDataArePhaseFlipped": ["True", "0"]}
    assert read_particles(project(loop("optics", {**OPTICS, **flags}), rows)).phase_flipped
    assert read_particles(project(loop("p", {**IMAGES, "rlnCtfDataArePhaseFlipped": [1] * 3})), 1.0).phase_flipped


def test_the_optimiser_beside_a_refinement_is_asked(project: Callable[..., Path], tmp_path: Path) -> None:
    path = project(loop("particles", IMAGES), name="run_it025_data.star")
    assert read_particles(path, 1.0).particle_diameter_angstrom is None
    beside = tmp_path / "run_it025_optimiser.star"
    beside.write_text("data_optimiser_general\n_rlnParticleDiameter 180.5\n_rlnCtfDataArePhaseFlipped 1\n")
    particles = read_particles(path, 1.0)
    assert particles.particle_diameter_angstrom == 180.5
    assert particles.phase_flipped
    beside.write_text("data_optimiser_general\n_rlnParticleDiameter -1\n")
    assert read_particles(path, 1.0).particle_diameter_angstrom is None
    beside.write_text("not a STAR file")
    assert read_particles(path, 1.0).particle_diameter_angstrom is None


# -- images ------------------------------------------------------------------------------------------------------------


def test_images_are_those_that_the_rows_name(tmp_path: Path) -> None:
    first, second = stack(tmp_path / "a.mrcs"), stack(tmp_path / "Extract" / "b c.mrcs", 2)
    names = ["000003@a.mrcs", '"2@Extract/b c.mrcs"', "1@a.mrcs", "000003@a.mrcs"]
    path = tmp_path / "particles.star"
    path.write_text(loop("particles", {"rlnImageName": names, "rlnPixelSize": [1] * 4}))
    particles = read_particles(path)
    expected = [first[2], second[1], first[0], first[2]]
    np.testing.assert_array_equal(particles.images.read(np.arange(4)), expected)
    np.testing.assert_array_equal(particles.images.read(np.array([2, 1])), [first[0], second[1]])
    assert particles.images.box_sizes.tolist() == [BOX] * 4
    assert open_particles(path).input_files() == [path, tmp_path / "a.mrcs", tmp_path / "Extract" / "b c.mrcs"]


def test_paths_are_relative_to_the_project_wherever_the_star_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stack(tmp_path / "project" / "Extract" / "job007" / "Movies" / "m.mrcs")
    text = loop("particles", {"rlnImageName": ["2@Extract/job007/Movies/m.mrcs"], "rlnPixelSize": [1]})
    inside = tmp_path / "project" / "Select" / "job009" / "particles.star"
    inside.parent.mkdir(parents=True)
    inside.write_text(text)
    np.testing.assert_array_equal(read_particles(inside).images.read(np.array([0])), images[1:2])
    outside = tmp_path / "elsewhere" / "particles.star"
    outside.parent.mkdir()
    outside.write_text(text)
    assert "which is not there" in fault(outside)
    monkeypatch.chdir(tmp_path / "project")
    np.testing.assert_array_equal(read_particles(outside).images.read(np.array([0])), images[1:2])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere" / "linked.star").symlink_to(inside)
    linked = read_particles(tmp_path / "elsewhere" / "linked.star")
    np.testing.assert_array_equal(linked.images.read(np.array([0])), images[1:2])


def test_absolute_paths(tmp_path: Path) -> None:
    images = stack(tmp_path / "far" / "s.mrcs")
    path = tmp_path / "near" / "p.star"
    path.parent.mkdir()
    path.write_text(loop("p", {"rlnImageName": [f"1@{tmp_path}/far/s.mrcs"], "rlnPixelSize": [1]}))
    np.testing.assert_array_equal(read_particles(path).images.read(np.array([0])), images[:1])


def test_names_that_state_their_format(tmp_path: Path) -> None:
    images = stack(tmp_path / "s.st")
    path = tmp_path / "p.star"
    path.write_text(loop("p", {"rlnImageName": ["1@s.st:mrcs"], "rlnPixelSize": [1]}))
    np.testing.assert_array_equal(read_particles(path).images.read(np.array([0])), images[:1])


def test_a_missing_stack_is_named_with_its_line_and_where_it_was_looked_for(project: Callable[..., Path]) -> None:
    names = {"rlnImageName": ["1@s.mrcs", "1@gone/t.mrcs", "2@gone/t.mrcs"], "rlnPixelSize": [1] * 3}
    path = project(loop("p", names))
    assert fault(path) == (
        f"line 8 names the stack 'gone/t.mrcs', which is not there; looked in {path.parent} and every folder "
        f"above it, and {Path.cwd()}; run in the RELION project's folder, or put the stacks back"
    )


def test_names_of_latin_1_stacks_reach_the_file_system(tmp_path: Path) -> None:
    raw = "Müller.mrcs".encode("latin-1")
    try:
        images = stack(tmp_path / os.fsdecode(raw))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    path = tmp_path / "p.star"
    path.write_bytes(b"data_p\nloop_\n_rlnImageName\n_rlnPixelSize\n1@" + raw + b" 1\n")
    np.testing.assert_array_equal(read_particles(path).images.read(np.array([0])), images[:1])


def test_names_without_a_number(tmp_path: Path) -> None:
    images = stack(tmp_path / "one.mrc", 1)
    path = tmp_path / "p.star"
    path.write_text(loop("p", {"rlnImageName": ["one.mrc"], "rlnPixelSize": [1]}))
    particles = read_particles(path)
    np.testing.assert_array_equal(particles.images.read(np.array([0])), images)
    assert particles.notes == (f"{path}: 1 image name without number and @; the first image of such a file is used",)


def test_boxes_that_the_optics_state_are_checked_against_the_stack(project: Callable[..., Path]) -> None:
    optics = {"rlnOpticsGroup": [1], "rlnImagePixelSize": [1.5], "rlnImageSize": [BOX + 2]}
    particles = read_particles(project(loop("optics", optics), loop("p", {**IMAGES, "rlnOpticsGroup": [1] * 3})))
    assert particles.images.box_sizes.tolist() == [BOX + 2] * 3
    with pytest.raises(InputError, match=r"s\.mrcs: its images are 8 px wide, but row 1 says 10 px"):
        particles.images.read(np.arange(3))


def test_a_row_beyond_the_end_of_its_stack(project: Callable[..., Path]) -> None:
    particles = read_particles(project(loop("p", {"rlnImageName": ["1@s.mrcs", "4@s.mrcs"], "rlnPixelSize": [1, 1]})))
    with pytest.raises(InputError, match=r"s\.mrcs: has 3 images, but row 2 asks for number 4"):
        particles.images.read(np.arange(2))


@pytest.mark.parametrize(
    "blocks",
    [
        [loop("p", {"rlnImageName": ["Extract/1_stack2d.mrcs"], "rlnTomoParticleName": ["TS_01/1"]})],
        [loop("p", {"rlnImageName": ["sub.mrc"], "rlnCoordinateZ": [3]})],
        [
            loop("optics", {"rlnOpticsGroup": [1], "rlnImageDimensionality": [3]}),
            loop("p", {"rlnImageName": ["1@s.mrcs"], "rlnOpticsGroup": [1]}),
        ],
    ],
)
def test_tomography_is_refused_in_plain_words_but_can_be_filtered(
    project: Callable[..., Path], blocks: list[str]
) -> None:
    path = project(*blocks)
    assert fault(path) == (
        "holds subtomograms or tilt stacks of tomography, not single-particle images; give a single-particle set "
        "(rows of this file can be filtered, its images not judged)"
    )
    open_particles(path).write_subset(np.array([True]), path.with_name("out.star"))
    assert path.with_name("out.star").read_bytes() == path.read_bytes()


def test_a_set_without_images_can_be_filtered(project: Callable[..., Path]) -> None:
    path = project(loop("p", {"rlnMicrographName": ["m1", "m2"], "rlnCoordinateX": [1, 2]}))
    assert fault(path) == (
        "data_p has no column rlnImageName, so there are no particle images to read; extract the particles first and "
        "give the extraction's particles.star"
    )
    open_particles(path).write_subset(np.array([False, True]), path.with_name("out.star"))
    assert path.with_name("out.star").read_text() == path.read_text().replace("m1 1\n", "")


def test_an_empty_set(project: Callable[..., Path]) -> None:
    path = project("data_particles\nloop_\n_rlnImageName #1\n_rlnX #2\n")
    assert fault(path) == "data_particles has no rows; give a file with particles in it"


def test_the_source_is_found_through_its_entry_point(project: Callable[..., Path]) -> None:
    path = project(loop("p", {**IMAGES, "rlnPixelSize": [2] * 3}))
    source = open_any(path)
    assert isinstance(source, RelionParticles)
    assert (source.path, source.suffix) == (path, ".star")
    assert len(source.read()) == 3
    assert source.read(pixel_size_angstrom=4.0).pixel_size_angstrom.tolist() == [4] * 3


def test_what_is_no_star_file_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "p.star"
    path.write_text("data_general\n_rlnX 1\n")
    with pytest.raises(InputError, match="none of its blocks"):
        open_particles(path)


def test_a_set_written_here_is_read_back(tmp_path: Path) -> None:
    stack(tmp_path / "s.mrcs")
    rng = np.random.default_rng(3)
    ctf = CtfParameters(*rng.uniform(1, 2, (7, 3)))
    poses = Poses(rng.normal(size=(3, 3)), rng.normal(size=(3, 2)))
    xy = rng.normal(size=(3, 2))
    path = tmp_path / "p.star"
    write_particles(
        path, IMAGES["rlnImageName"], [1.0, 1.5, 1.0], BOX, ctf=ctf, poses=poses,
        micrograph=["a", "b", "b"], coordinates_px=xy,
    )  # fmt: skip
    particles = read_particles(path)
    assert particles.pixel_size_angstrom.tolist() == [1.0, 1.5, 1.0]
    assert particles.ctf is not None
    assert particles.poses is not None
    for name in vars(ctf):
        np.testing.assert_array_equal(getattr(particles.ctf, name), getattr(ctf, name))
    np.testing.assert_array_equal(particles.poses.euler_deg, poses.euler_deg)
    np.testing.assert_array_equal(particles.poses.shifts_angstrom, poses.shifts_angstrom)
    np.testing.assert_array_equal(particles.coordinates_px, xy)
    assert particles.images.box_sizes.tolist() == [BOX] * 3


# -- real sets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n", "pixel_size", "box", "ctf", "poses", "diameter"),
    [
        ("aspire-python/sample_particles_relion30.star", 17, 1.338, 200, True, True, None),
        ("aspire-python/sample_particles_relion31.star", 17, 1.4, 200, True, True, None),
        ("aspire-python/rln_proj_65_shifted.star", 4, 1.0, 65, False, True, None),
        ("cryosparc/empiar_10076_7.star", 7, 1.31, 320, True, False, None),
        ("particles/betagal_10204/Extract/job009/particles.star", 699, 3.54, 64, True, False, None),
        ("particles/betagal_10204/Class2D/job010/run_it025_data.star", 699, 3.54, 64, True, True, 200.0),
        ("particles/relion31_5/relion31.star", 5, 2.806, 256, True, True, None),
        ("particles/relion31_5/relion31.v2.star", 5, 2.806, 256, True, True, None),
        ("particles/relion_projections/relion_proj_batch.star", 24, 3.54, 64, True, True, None),
    ],
)
def test_real_sets(
    data_dir: Path, name: str, n: int, pixel_size: float, box: int, ctf: bool, poses: bool, diameter: float | None
) -> None:
    particles = read_particles(data_dir / name)
    assert len(particles) == n
    np.testing.assert_allclose(particles.pixel_size_angstrom, pixel_size, rtol=1e-4)
    assert particles.images.box_sizes.tolist() == [box] * n
    assert (particles.ctf is not None, particles.poses is not None) == (ctf, poses)
    assert particles.particle_diameter_angstrom == diameter
    assert particles.notes == ()
    images = particles.images.read(np.array([n - 1, 0]))
    assert images.shape == (2, box, box)
    assert np.isfinite(images).all()


def test_two_optics_groups_of_a_real_set(data_dir: Path) -> None:
    particles = read_particles(data_dir / "aspire-python/sample_particles_relion31.star")
    assert particles.optics_group_names == ("opticsGroup1", "opticsGroup2")
    assert particles.ctf is not None
    np.testing.assert_array_equal(particles.ctf.voltage_kv, np.where(particles.optics_group == 0, 300, 200))
    assert set(particles.optics_group.tolist()) == {0, 1}


TOMOGRAPHIC = [
    "star/edge/cryoCAT__bin1_1deg_500.star",
    "star/relion31/cryoCAT__relion_3.1_optics2.star",
    "star/tomo3/subtomo2Chimera__run_data_empiar10064.star",
    "star/tomo4/cryoet-data-portal-backend__relion_3_star.star",
    "star/tomo4/cryoet-data-portal-backend__relion_4_star.star",
    "star/tomo4/napari-starfile__example_particles_with_optics.star",
    "star/tomo5/cylindra__run_it025_data.star",
]


@pytest.mark.parametrize("name", TOMOGRAPHIC)
def test_real_tomographic_sets(data_dir: Path, name: str) -> None:
    assert fault(data_dir / name).startswith("holds subtomograms or tilt stacks of tomography")
