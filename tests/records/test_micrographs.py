"""Micrographs and templates from whatever names them, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from support import write_stack

from napari_pickbias.errors import InputError
from napari_pickbias.records.micrographs import one_pixel_size, open_micrographs, read_headers
from napari_pickbias.records.templates import read_templates


def write_micrograph(path: Path, shape: tuple[int, ...] = (32, 48), pixel_size: float = 2.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    mrcfile.write(path, values, voxel_size=pixel_size, overwrite=True)
    return path


def write_list(path: Path, names: list[str], pixel_sizes: tuple[float, ...] = (2.0,), defocus: bool = True) -> Path:
    optics = "".join(f"{k} og{k} {size} 300 2.7 0.1\n" for k, size in enumerate(pixel_sizes, 1))
    rows = "".join(
        f"{name} {k % len(pixel_sizes) + 1}" + (f" {10000 + k} {9900 + k} 12.5" if defocus else "") + "\n"
        for k, name in enumerate(names)
    )
    labels = "_rlnDefocusU #3\n_rlnDefocusV #4\n_rlnDefocusAngle #5\n" if defocus else ""
    path.write_text(
        "# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnOpticsGroupName #2\n"
        "_rlnMicrographPixelSize #3\n_rlnVoltage #4\n_rlnSphericalAberration #5\n_rlnAmplitudeContrast #6\n"
        f"{optics}\n\n# version 30001\n\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n"
        f"{labels}{rows}\n"
    )
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_micrograph(tmp_path / "Movies" / f"m{number}.mrc")
    (tmp_path / "Movies" / "notes.txt").write_text("no micrograph")
    return tmp_path


@pytest.mark.parametrize("where", ["Movies", "Movies/m*", "Movies/*.mrc"])
def test_a_folder_or_a_pattern(folder: Path, where: str) -> None:
    found = open_micrographs(where)
    assert [path.name for path in found.micrographs.paths] == ["m0.mrc", "m1.mrc", "m2.mrc"]
    assert found.micrographs.ctf is None
    assert found.list_file is None
    assert one_pixel_size(found.micrographs) == 2.0
    assert one_pixel_size(open_micrographs(where, 3.5).micrographs) == 3.5
    assert [header.shape for header in read_headers(found.micrographs)] == [(1, 32, 48)] * 3
    assert len(open_micrographs("Movies/m1.mrc")) == 1


def test_a_list_keeps_names_and_ctf(folder: Path) -> None:
    star = write_list(folder / "micrographs.star", [f"Movies/m{k}.mrc" for k in (2, 0)])
    found = open_micrographs(star)
    assert found.micrographs.names == ("Movies/m2.mrc", "Movies/m0.mrc")
    assert found.micrographs.ctf is not None
    assert found.micrographs.ctf.defocus_u_angstrom.tolist() == [10000, 10001]
    assert found.input_files()[0] == star


def test_cryosparc_micrographs(folder: Path) -> None:
    kind = [("uid", "<u8"), ("micrograph_blob/path", "S40"), ("micrograph_blob/psize_A", "<f4")]
    rows = np.array([(7, b"Movies/m1.mrc", 1.77), (9, b"Movies/m0.mrc", 1.77)], dtype=kind)
    fields = [(f"ctf/{n}", "<f4") for n in ("df1_A", "df2_A", "df_angle_rad", "accel_kv", "cs_mm", "amp_contrast")]
    ctf = np.array([(9, 2e4, 1.9e4, 0.5, 300, 2.7, 0.1), (7, 1e4, 9e3, 0.5, 300, 2.7, 0.1)], [("uid", "<u8"), *fields])
    for name, table in (("J3_micrographs.cs", rows), ("J3_passthrough_micrographs.cs", ctf)):
        with (folder / name).open("wb") as stream:
            np.save(stream, table)
    found = open_micrographs(folder / "J3_micrographs.cs").micrographs
    assert [path.name for path in found.paths] == ["m1.mrc", "m0.mrc"]
    assert found.pixel_size_angstrom.tolist() == [1.77, 1.77]
    assert found.ctf is not None
    assert found.ctf.defocus_u_angstrom.tolist() == [1e4, 2e4]
    assert found.ctf.defocus_angle_deg[0] == pytest.approx(np.degrees(0.5))
    (folder / "Movies" / "m1.mrc").unlink()
    with pytest.raises(InputError, match=r"names the micrograph Movies/m1\.mrc, which is in none of the folders above"):
        open_micrographs(folder / "J3_micrographs.cs")
    with (folder / "J4_particles.cs").open("wb") as stream:
        np.save(stream, np.zeros(2, [("uid", "<u8"), ("blob/idx", "<u4")]))
    with pytest.raises(InputError, match="holds no micrographs but blob; give the micrographs"):
        open_micrographs(folder / "J4_particles.cs")


def test_what_is_refused(folder: Path) -> None:
    empty = folder / "empty"
    empty.mkdir()
    (folder / "none.star").write_text("")
    names = ["Movies/m0.mrc", "Movies/m1.mrc"]
    two = write_list(folder / "two.star", names, (2.0, 3.0))
    lost = write_list(folder / "lost.star", ["Movies/m0.mrc", "Movies/m7.mrc"])
    for where, line in {
        "nowhere": "--micrographs nowhere: no such file or folder; check the path",
        "empty": "--micrographs empty: no micrographs (.mrc) are there; give their folder, a pattern or a list",
        "Movies/x*": "--micrographs Movies/x*: no micrographs (.mrc) are there; give their folder, a pattern or a list",
        "Movies/notes.txt": "--micrographs Movies/notes.txt: cannot tell what this file is; known suffixes are .cs, ",
        "none.star": "none.star: lists no micrographs; give a micrographs.star with rlnMicrographName",
        str(lost): f"{lost}: names the micrograph 'Movies/m7.mrc', which is not there; looked in ",
    }.items():
        with pytest.raises(InputError) as fault:
            open_micrographs(where)
        assert str(fault.value).startswith(line)
    with pytest.raises(InputError) as fault:
        one_pixel_size(open_micrographs(two).micrographs)
    assert str(fault.value) == (
        "Movies/m1.mrc: its pixel size is 3 Å, that of Movies/m0.mrc is 2 Å; pick micrographs of each pixel size by "
        "themselves"
    )
    with pytest.raises(InputError, match=r"--pixel-size -1: must be a number above 0, in Å"):
        open_micrographs("Movies", -1)


def test_damaged_files_are_named(folder: Path) -> None:
    path = folder / "Movies" / "m1.mrc"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"m1\.mrc: "):
        read_headers(open_micrographs("Movies", 2.0).micrographs)
    write_stack(folder / "Movies" / "m1.mrc", np.ones((4, 8, 8), np.float32))
    with pytest.raises(InputError, match="holds 4 images of 8×8 float32, not one micrograph; align and average movies"):
        read_headers(open_micrographs("Movies", 2.0).micrographs)


def test_templates_from_stacks_and_stars(folder: Path) -> None:
    images = np.random.default_rng(0).normal(size=(4, 16, 16)).astype(np.float32)
    images[2] = 0  # an empty class
    write_stack(folder / "classes.mrcs", images, 3.0)
    found = read_templates("classes.mrcs")
    assert found.pixel_size_angstrom == pytest.approx(3)
    np.testing.assert_array_equal(found.images, images[[0, 1, 3]])
    model = "\ndata_model_general\n\n_rlnPixelSize 4.5\n\ndata_model_classes\n\nloop_\n_rlnReferenceImage #1\n"
    (folder / "run_model.star").write_text(model + "000002@classes.mrcs\n000001@classes.mrcs\n\n")
    found = read_templates("run_model.star")
    assert found.pixel_size_angstrom == 4.5
    np.testing.assert_array_equal(found.images, images[[1, 0]])
    assert read_templates("run_model.star", 6.0).pixel_size_angstrom == 6.0
    (folder / "class_averages.star").write_text("\ndata_\n\nloop_\n_rlnReferenceImage #1\n4@classes.mrcs\n\n")
    found = read_templates("class_averages.star")
    assert found.pixel_size_angstrom == pytest.approx(3)
    np.testing.assert_array_equal(found.images, images[[3]])


def test_templates_that_are_refused(folder: Path) -> None:
    write_stack(folder / "flat.mrcs", np.ones((2, 8, 8), np.float32))
    write_stack(folder / "nan.mrcs", np.full((2, 8, 8), np.nan, np.float32))
    write_stack(folder / "wide.mrcs", np.ones((2, 8, 9), np.float32))
    mrcfile.write(folder / "map.mrc", np.ones((8, 8, 8), np.float32), voxel_size=3.0)
    write_stack(folder / "bare.mrcs", np.eye(8, dtype=np.float32)[None], 0.0)
    (folder / "t.txt").write_text("")
    write_stack(folder / "particles.mrcs", np.ones((1001, 2, 2), np.float32))
    rows = "".join(f"{number}@particles.mrcs\n" for number in range(1, 1002))
    (folder / "particles.star").write_text(f"\ndata_particles\n\nloop_\n_rlnImageName #1\n{rows}\n")
    (folder / "far.star").write_text("\ndata_\n\nloop_\n_rlnReferenceImage #1\n9@bare.mrcs\n\n")
    (folder / "gone.star").write_text("\ndata_\n\nloop_\n_rlnReferenceImage #1\n9@gone.mrcs\n\n")
    (folder / "else.star").write_text("\ndata_\n\nloop_\n_rlnCoordinateX #1\n9\n\n")
    for name, line in {
        "no.mrcs": "--templates no.mrcs: no such file; give a stack (.mrcs) or a STAR file of class averages",
        "flat.mrcs": "--templates flat.mrcs: all its images are constant; give class averages with particles",
        "nan.mrcs": "--templates nan.mrcs: image 1 holds NaN or infinite pixels; remove that template",
        "wide.mrcs": "--templates wide.mrcs: its images are 8 × 9 px; templates must be square",
        "map.mrc": "--templates map.mrc: is a map of 8×8×8 float32; give it as --map, or images as a stack (.mrcs)",
        "bare.mrcs": "--templates bare.mrcs: its header holds no pixel size; give it in Å with --templates-pixel-size",
        "particles.mrcs": "--templates particles.mrcs: holds 1001 images, more than the 1000 that can be templates; "
        "give class averages, not particles",
        "particles.star": "--templates particles.star: holds 1001 images, more than the 1000 that can be templates; "
        "give class averages, not particles",
        "t.txt": "--templates t.txt: cannot tell what this file is; known suffixes are .mrc, .mrc.gz, ",
        "far.star": "far.star: asks for image 9 of bare.mrcs, which has 1",
        "gone.star": "gone.star: names the images 'gone.mrcs', which are not there; looked in ",
        "else.star": "else.star: names no images; give a _model.star or class_averages.star, or a stack (.mrcs)",
    }.items():
        with pytest.raises(InputError) as fault:
            read_templates(name)
        said = str(fault.value).replace(f"{folder}/", "")
        assert said.startswith(line), said
