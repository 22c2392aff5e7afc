"""``.cs`` to STAR and back: against csparc2star's output on real files, and round trips."""

from __future__ import annotations

import shutil
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import write_mrc
from pickbias_cryosparc.convert import convert, cs_to_star, star_to_cs
from pickbias_cryosparc.poses import euler_from_rotation_vectors, rotation_vectors_from_euler


def refusal(*args, **options) -> str:
    with pytest.raises(InputError) as caught:
        convert(*args, **options)
    return str(caught.value)


def rotations(table: pd.DataFrame) -> Rotation:
    return Rotation.from_euler("ZYZ", table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(), degrees=True)


# csparc2star prints six digits of float32 values: that, not the formulas, sets these tolerances.
TOLERANCE = {
    "rlnAnglePsi": 2e-5,
    "rlnOriginXAngst": 3e-6,
    "rlnOriginYAngst": 3e-6,
    "rlnDefocusU": 0,
    "rlnDefocusV": 0,
    "rlnDefocusAngle": 4e-5,
    "rlnPhaseShift": 0,
    "rlnCtfBfactor": 0,
    "rlnOpticsGroup": 0,
    "rlnRandomSubset": 0,
    "rlnClassNumber": 0,
    "rlnCoordinateX": 0.5,  # it rounds to whole pixels
    "rlnCoordinateY": 0.5,
}


@pytest.mark.parametrize(
    ("source", "expected", "micrograph_y"),
    [
        ("cryosparc_P12_J24_001_particles.cs", "P12_J24_001.csparc2star.star", "same"),
        ("cryosparc_J2_particles_exported.cs", "J2_exported.csparc2star.star", "same"),
        ("t20s_particles.csg", "t20s.csparc2star.inverty.star", "same"),
        ("t20s_particles.cs", "t20s.csparc2star.default.star", "flipped"),
        ("t20s_particles_csdat.cs", "t20s.csparc2star.inverty.star", "same"),
    ],
)
def test_equal_to_csparc2star(data_dir, tmp_path, source, expected, micrograph_y):
    folder = data_dir / "cryosparc"
    convert(folder / source, tmp_path / "a.star", micrograph_y=micrograph_y)
    mine, theirs = starfile.read(tmp_path / "a.star"), starfile.read(folder / "expected" / expected)
    pd.testing.assert_frame_equal(mine["optics"][theirs["optics"].columns], theirs["optics"])
    assert set(mine["optics"]) == set(theirs["optics"])
    ours = mine["particles"].set_index("rlnImageName")
    theirs = theirs["particles"].set_index("rlnImageName").loc[ours.index]  # it sorts the rows anew
    assert set(ours) == set(theirs)
    if "rlnAngleRot" in ours:
        assert (rotations(ours) * rotations(theirs).inv()).magnitude().max() < 1e-6
    for name in set(ours) - {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"} | ({"rlnAnglePsi"} - set(ours)):
        if name == "rlnMicrographName":
            assert ours[name].tolist() == theirs[name].tolist()
        elif name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=TOLERANCE[name], err_msg=name)


def test_2d_angles_keep_their_sign(data_dir, tmp_path):
    folder = data_dir / "cryosparc"
    cs_to_star(folder / "cryosparc_J2_particles_exported.cs", tmp_path / "a.star")
    psi = starfile.read(tmp_path / "a.star")["particles"]["rlnAnglePsi"]
    raw = np.load(folder / "cryosparc_J2_particles_exported.cs")["alignments2D/pose"]
    np.testing.assert_allclose(psi, np.rad2deg(raw.astype(float)), atol=1e-6)


def test_the_published_numbers(data_dir):
    rows = np.load(data_dir / "cryosparc/cryosparc_P12_J24_001_particles.cs")
    euler = euler_from_rotation_vectors(rows["alignments3D/pose"])
    np.testing.assert_allclose(euler[0], [-157.808487, 118.790970, 34.683304], atol=5e-5)
    views = Rotation.from_rotvec(rows["alignments3D/pose"].astype(float)).apply([0, 0, 1])
    rot, tilt = np.deg2rad(euler[:, 0]), np.deg2rad(euler[:, 1])
    expected = np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], axis=1)
    np.testing.assert_allclose(views, expected, atol=1e-14)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_rotation_vectors_come_back_as_rotations(vector):
    back = rotation_vectors_from_euler(euler_from_rotation_vectors([vector]))
    # Near the poles tilt is an arc cosine near 1, which holds half the digits: 1.2e-7 was the worst seen.
    assert (Rotation.from_rotvec(back) * Rotation.from_rotvec([vector]).inv()).magnitude()[0] < 5e-7


def test_the_poles_do_not_warn():
    with warnings.catch_warnings(action="error"):
        euler = euler_from_rotation_vectors([[0, 0, 1.0], [np.pi, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(euler[:, 1], [0, 180, 0], atol=1e-6)
    assert euler_from_rotation_vectors(np.zeros((0, 3))).shape == (0, 3)
    assert rotation_vectors_from_euler(np.zeros((0, 3))).shape == (0, 3)


def test_the_twin_star_file_gives_the_same_table(data_dir, tmp_path):
    """RELION up to 3.0: one block, pixel size from magnification, box from the stack's header."""
    folder = data_dir / "cryosparc"
    converted = convert(folder / "empiar_10076_7.star", tmp_path / "a.cs")
    mine, theirs = np.load(tmp_path / "a.cs"), np.load(folder / "empiar_10076_7.cs")
    assert mine.dtype.names == theirs.dtype.names
    for name in set(theirs.dtype.names) - {"uid", "blob/sign", "blob/import_sig", "ctf/exp_group_id"}:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    assert len(np.unique(mine["uid"])) == 7
    assert converted.notes == (
        "no side table of uids: new ones were made, so CryoSPARC will not know these particles again",
    )
    again = convert(folder / "empiar_10076_7.star", tmp_path / "b.cs")
    assert (tmp_path / "a.cs").read_bytes() == again.files[0].read_bytes()


def test_there_and_back(grouped, tmp_path):
    there = convert(grouped.job, tmp_path / "p.star")
    assert there.files == [tmp_path / "p.star", tmp_path / "p_uids.csv"]
    assert len(there.notes) == 1
    assert there.notes[0].startswith("the images are dark on light (blob/sign is -1)")
    back = convert(tmp_path / "p.star", tmp_path / "p.cs")
    assert back.files == [tmp_path / "p.cs", tmp_path / "p.csg"]
    assert back.notes == ()
    rows, main = np.load(tmp_path / "p.cs"), grouped.main
    exact = ["uid", "blob/path", "blob/idx", "blob/shape", "blob/sign", "ctf/exp_group_id", "alignments3D/split"]
    for name in [*exact, "alignments3D/class", "blob/psize_A", "ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast"]:
        np.testing.assert_array_equal(rows[name], main[name], err_msg=name)
    np.testing.assert_allclose(rows["ctf/df1_A"], main["ctf/df1_A"], rtol=1e-6)
    np.testing.assert_allclose(rows["ctf/df_angle_rad"], main["ctf/df_angle_rad"], atol=1e-6)
    turned = Rotation.from_rotvec(rows["alignments3D/pose"]) * Rotation.from_rotvec(main["alignments3D/pose"]).inv()
    assert turned.magnitude().max() < 1e-6
    shift = rows["alignments3D/shift"] * rows["alignments3D/psize_A"][:, None]
    np.testing.assert_allclose(shift, main["alignments3D/shift"] * 3.0, atol=2e-6)
    by_uid = {row["uid"]: row for row in grouped.passthrough}
    for name in ("micrograph_uid", "micrograph_shape", "micrograph_path", "exp_group_id"):
        expected = [by_uid[u][f"location/{name}"] for u in main["uid"]]
        np.testing.assert_array_equal(rows[f"location/{name}"], expected)
    for axis in "xy":
        expected = [by_uid[u][f"location/center_{axis}_frac"] for u in main["uid"]]
        np.testing.assert_allclose(rows[f"location/center_{axis}_frac"], expected, atol=1e-7)


def test_micrograph_y(grouped, tmp_path):
    tables = {}
    for way in ("same", "flipped"):
        convert(grouped.job, tmp_path / f"{way}.star", micrograph_y=way)
        tables[way] = starfile.read(tmp_path / f"{way}.star")["particles"]
        convert(tmp_path / f"{way}.star", tmp_path / f"{way}.cs", micrograph_y=way)
    y = [tables[way].pop("rlnCoordinateY").to_numpy() for way in ("same", "flipped")]
    np.testing.assert_allclose(y[0] + y[1], 100, atol=2e-6)
    pd.testing.assert_frame_equal(tables["same"], tables["flipped"])  # the images stay as they are
    frac = [np.load(tmp_path / f"{way}.cs")["location/center_y_frac"] for way in ("same", "flipped")]
    np.testing.assert_allclose(frac[0], frac[1], atol=1e-6)


def test_uid_prefixes_come_off_micrograph_names(grouped, tmp_path, save_cs, make_table):
    paths = grouped.passthrough["location/micrograph_path"].astype("S80")
    paths[0] = b"J1/000000000000000000007_000000000000000000008_m.mrc"
    columns = {n: grouped.passthrough[n] for n in grouped.passthrough.dtype.names} | {"location/micrograph_path": paths}
    save_cs(grouped.job / "J30_passthrough_particles.cs", make_table(12, columns))
    convert(grouped.job, tmp_path / "a.star", strip_uids=True)
    names = set(starfile.read(tmp_path / "a.star")["particles"]["rlnMicrographName"])
    assert names == {"J1/m.mrc", "J14/mics/é_one.mrc", "J14/mics/two.mrc"}


def test_uids_of_micrographs_come_from_their_names(grouped, tmp_path):
    for name in ("000000000000000000007_é_one.mrc", "000000000000000000008_two.mrc"):
        (tmp_path / "J14/mics").mkdir(parents=True, exist_ok=True)
        write_mrc(tmp_path / "J14/mics" / name, np.zeros((100, 140)), 1.0)
    convert(grouped.job, tmp_path / "a.star")
    (tmp_path / "a_uids.csv").unlink()
    convert(tmp_path / "a.star", tmp_path / "a.cs")
    rows = np.load(tmp_path / "a.cs")
    assert rows["location/micrograph_uid"].tolist() == [7, 8] * 6
    assert rows["location/micrograph_shape"].tolist() == [[100, 140]] * 12


def test_unknown_micrographs_give_no_locations(grouped, tmp_path):
    convert(grouped.job, tmp_path / "a.star")
    (tmp_path / "a_uids.csv").unlink()
    converted = convert(tmp_path / "a.star", tmp_path / "a.cs")
    assert "location/center_x_frac" not in np.load(tmp_path / "a.cs").dtype.names
    assert converted.notes[-1] == (
        f"there is no location slot, since the micrographs' size is unknown: {tmp_path / 'a.star'}: names J14/mics/"
        "000000000000000000007_é_one.mrc, which is not in its folder or above; keep the STAR file in its project"
    )


def test_repeated_images_keep_their_own_uids(grouped, tmp_path, save_cs):
    """Symmetry expansion: one image, several rows, uids of their own."""
    rows = grouped.main.copy()
    rows["blob/path"], rows["blob/idx"] = rows["blob/path"][0], 3
    save_cs(grouped.job / "extracted_particles.cs", rows)
    convert(grouped.job, tmp_path / "a.star")
    convert(tmp_path / "a.star", tmp_path / "a.cs")
    np.testing.assert_array_equal(np.load(tmp_path / "a.cs")["uid"], rows["uid"])
    (tmp_path / "a_uids.csv").unlink()
    convert(tmp_path / "a.star", tmp_path / "b.cs")
    assert len(np.unique(np.load(tmp_path / "b.cs")["uid"])) == 12


def test_a_subset_of_the_star_file_finds_its_uids(grouped, tmp_path):
    convert(grouped.job, tmp_path / "all.star")
    blocks = starfile.read(tmp_path / "all.star")
    fewer = blocks["particles"].iloc[[7, 2, 5]].copy()
    fewer["rlnImageName"] = [n.lstrip("0") for n in fewer["rlnImageName"]]  # as other programs write it
    starfile.write({"optics": blocks["optics"], "particles": fewer}, tmp_path / "few.star")
    convert(tmp_path / "few.star", tmp_path / "few.cs", uids=tmp_path / "all_uids.csv")
    np.testing.assert_array_equal(np.load(tmp_path / "few.cs")["uid"], grouped.main["uid"][[7, 2, 5]])


def test_mixed_exposure_groups_are_split(grouped, tmp_path, save_cs):
    rows = grouped.main.copy()
    rows["blob/psize_A"][[0, 2]] = 1.6
    rows["ctf/accel_kv"][1] = 200
    save_cs(grouped.job / "extracted_particles.cs", rows)
    converted = convert(grouped.job, tmp_path / "a.star")
    assert converted.notes[0] == ("exposure groups whose particles differ in pixel size, box or microscope were split")
    blocks = starfile.read(tmp_path / "a.star")
    optics = blocks["optics"].set_index("rlnOpticsGroup")
    assert sorted(optics.index) == [24, 26, 27, 28]
    assert optics["rlnOpticsGroupName"].tolist() == [f"opticsGroup{i}" for i in optics.index]
    mine = optics.loc[blocks["particles"]["rlnOpticsGroup"]]
    np.testing.assert_allclose(mine["rlnImagePixelSize"], rows["blob/psize_A"], rtol=1e-6)
    np.testing.assert_allclose(mine["rlnVoltage"], rows["ctf/accel_kv"])


@pytest.mark.parametrize("layout", ["slots", "axis"])
def test_the_likeliest_class_of_a_heterogeneous_refinement(project, tmp_path, save_cs, make_table, layout):
    rng, n, classes = np.random.default_rng(0), 12, 3
    posterior = rng.dirichlet(np.ones(classes), n).astype("f4")
    pose, shift = rng.normal(size=(n, classes, 3)).astype("f4"), rng.normal(size=(n, classes, 2)).astype("f4")
    columns = {m: project.main[m] for m in project.main.dtype.names if not m.startswith("alignments3D/")}
    if layout == "slots":
        for k in range(classes):
            columns |= {
                f"alignments_class_{k}/{f}": v
                for f, v in {
                    "class_posterior": posterior[:, k],
                    "pose": pose[:, k],
                    "shift": shift[:, k],
                    "psize_A": np.full(n, 2 + k, "f4"),
                    "split": (np.arange(n) % 2).astype("u4"),
                }.items()
            }
    else:
        columns |= {
            "alignments3D_multi/class_posterior": posterior,
            "alignments3D_multi/pose": pose,
            "alignments3D_multi/shift": shift,
            "alignments3D_multi/psize_A": np.tile(np.arange(2, 5, dtype="f4"), (n, 1)),
            "alignments3D_multi/split": (np.arange(n) % 2).astype("u4"),
        }
    save_cs(project.job / "extracted_particles.cs", make_table(n, columns))
    convert(project.job / "extracted_particles.cs", tmp_path / "a.star")
    table = starfile.read(tmp_path / "a.star")["particles"]
    best, rows = posterior.argmax(axis=1), np.arange(n)
    assert table["rlnClassNumber"].tolist() == (best + 1).tolist()
    assert table["rlnRandomSubset"].tolist() == (rows % 2 + 1).tolist()
    expected = Rotation.from_rotvec(pose[rows, best].astype(float))
    assert (rotations(table) * expected.inv()).magnitude().max() < 1e-6
    np.testing.assert_allclose(table["rlnOriginXAngst"], shift[rows, best, 0] * (best + 2), atol=1e-6)


def test_filaments(project, tmp_path, save_cs, make_table):
    uid = np.array([1 << 63, 5] * 6, "u8")
    more = {"filament/filament_uid": uid, "filament/filament_pose": np.linspace(0, 3, 12).astype("f4")}
    columns = {m: project.main[m] for m in project.main.dtype.names} | more
    save_cs(project.job / "extracted_particles.cs", make_table(12, columns))
    converted = convert(project.job / "extracted_particles.cs", tmp_path / "a.star")
    table = starfile.read(tmp_path / "a.star")["particles"]
    assert table["rlnHelicalTubeID"].tolist() == [2, 1] * 6
    np.testing.assert_allclose(table["rlnAnglePsiPrior"], 90 - np.rad2deg(np.linspace(0, 3, 12)), atol=1e-5)
    assert "filament angles are converted by a formula that was not checked on real filaments" in converted.notes


def test_what_has_no_sure_formula_is_left_out_and_said(grouped, tmp_path, save_cs):
    rows = grouped.main.copy()
    rows["ctf/tilt_A"], rows["ctf/anisomag"] = 0.1, 0.01
    save_cs(grouped.job / "extracted_particles.cs", rows)
    assert convert(grouped.job, tmp_path / "a.star").notes[0] == (
        "beam tilt, anisotropic scale of the .cs file: no formula is sure, so left out; refine them in RELION"
    )
    assert not any("Tilt" in c and "Beam" in c for c in starfile.read(tmp_path / "a.star")["particles"])


def test_links_to_stacks(grouped, tmp_path):
    convert(grouped.job, tmp_path / "a.star", link_stacks=True)
    table = starfile.read(tmp_path / "a.star")["particles"]
    name = table["rlnImageName"][1].split("@")[1]
    assert name == "a_stacks/J30/extract/000000000000000000008_two_particles.mrcs"
    assert (tmp_path / name).resolve() == (grouped.job / "extract/000000000000000000008_two_particles.mrc").resolve()
    convert(grouped.job, tmp_path / "a.star", link_stacks=True)  # and again
    convert(tmp_path / "a.star", tmp_path / "a.cs")
    np.testing.assert_array_equal(np.load(tmp_path / "a.cs")["blob/path"], grouped.main["blob/path"])


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("relion_star_handler") is None, reason="RELION is not installed")
def test_relion_reads_filters_and_stacks_what_was_written(data_dir, tmp_path):
    for name in ("empiar_10076_7.cs", "empiar_10076_7.mrc"):
        shutil.copy(data_dir / "cryosparc" / name, tmp_path / name)
    convert(tmp_path / "empiar_10076_7.cs", tmp_path / "p.star", link_stacks=True)

    def relion(*command: str) -> None:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)

    relion("relion_star_handler", "--i", "p.star", "--o", "q.star", "--select", "rlnDefocusU", "--minval", "15200")
    relion("relion_stack_create", "--i", "q.star", "--o", "stack", "--one_by_one")
    convert(tmp_path / "q.star", tmp_path / "q.cs", uids=tmp_path / "p_uids.csv")
    rows, whole = np.load(tmp_path / "q.cs"), np.load(tmp_path / "empiar_10076_7.cs")
    kept = whole["ctf/df1_A"] >= 15200
    for name in ("uid", "blob/path", "blob/idx", "blob/sign", "ctf/exp_group_id", "ctf/df1_A", "ctf/df_angle_rad"):
        np.testing.assert_array_equal(rows[name], whole[name][kept], err_msg=name)
    from napari_pickbias.records.mrc import open_data

    images = open_data(tmp_path / "empiar_10076_7.mrc")
    np.testing.assert_array_equal(open_data(tmp_path / "stack.mrcs"), images[kept])


# -- faults -----------------------------------------------------------------------------------------------------------


def star(tmp_path, grouped, change, optics=None):
    """Write a STAR file with something changed; return its path and what is said of it."""
    convert(grouped.job, tmp_path / "a.star")
    (tmp_path / "a_uids.csv").unlink()
    blocks = starfile.read(tmp_path / "a.star")
    changed = {"optics": (optics or (lambda t: t))(blocks["optics"]), "particles": change(blocks["particles"])}
    starfile.write({k: v for k, v in changed.items() if v is not None}, tmp_path / "b.star")
    return refusal(tmp_path / "b.star", tmp_path / "b.cs").removeprefix(f"{tmp_path / 'b.star'}: ")


def with_value(name, value):
    return lambda t: t.assign(**{name: [*t[name][:-1], value]})


@pytest.mark.parametrize(
    ("change", "optics", "what"),
    [
        (lambda t: t.drop(columns="rlnImageName"), None,
         "has no particles (no rlnImageName); give the STAR file of extracted particles"),
        (lambda t: t.drop(columns="rlnDefocusV"), None, "has no column rlnDefocusV, which CryoSPARC needs; add it"),
        (with_value("rlnDefocusU", "nonsense"), None, "rlnDefocusU of row 12 is no number; mend that row"),
        (with_value("rlnImageName", "x@stack.mrcs"), None,
         "rlnImageName of row 12 is 'x@stack.mrcs', not number@stack; mend that row"),
        (with_value("rlnImageName", "0@stack.mrcs"), None,
         "rlnImageName of row 12 is '0@stack.mrcs', not number@stack; mend that row"),
        (with_value("rlnOpticsGroup", 99), None,
         "particles are of optics group 99, which data_optics does not list"),
        (lambda t: t, lambda t: t.drop(columns="rlnImagePixelSize"),
         "holds no pixel size (rlnImagePixelSize); add it to data_optics"),
        (lambda t: t, lambda t: t.drop(columns="rlnImageSize"),
         "names J30/extract/000000000000000000007_é_one_particles.mrc, which is not in its folder or above; keep it in "
         "its project, or add rlnImageSize to data_optics"),
    ],
)  # fmt: skip
def test_star_files_that_lack_something(grouped, tmp_path, change, optics, what):
    assert star(tmp_path, grouped, change, optics) == what
    assert not (tmp_path / "b.cs").exists()


def test_other_star_files(data_dir, tmp_path):
    assert refusal(data_dir / "star/edge/cryosparc-tools__job096_run_data.star", tmp_path / "a.cs").endswith(
        "has no particles (no rlnImageName); give the STAR file of extracted particles"
    )
    ragged = data_dir / "star/edge/ASPIRE-Python__sample.star"
    text = refusal(ragged, tmp_path / "a.cs")
    assert text.startswith(f"{ragged}: cannot be read as a STAR file (")
    assert text.endswith("); write it again with RELION")
    (tmp_path / "none.star").write_text("data_particles\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n\n")
    assert "particles" in refusal(tmp_path / "none.star", tmp_path / "a.cs")


def test_side_tables_that_do_not_fit(grouped, tmp_path):
    convert(grouped.job, tmp_path / "a.star")
    side = tmp_path / "a_uids.csv"
    lines = side.read_text().splitlines(keepends=True)
    side.write_text("".join(lines[:5]))
    assert refusal(tmp_path / "a.star", tmp_path / "a.cs") == (
        f"{side}: has no uid for 000003@J30/extract/000000000000000000007_é_one_particles.mrc (row 5 of a.star); give "
        "the table that was made with that STAR file"
    )
    what = "is not a table of uids (columns rlnImageName, uid, sign); give the one made with the STAR file"
    for content in ("", "rlnImageName,sign\n", "".join(lines[:1]) + lines[1].replace(lines[1].split(",")[1], "x")):
        side.write_text(content if content.count("\n") != 2 else content + "".join(lines[2:]))
        if content in ("", "rlnImageName,sign\n"):
            assert "has no uid for" in refusal(tmp_path / "a.star", tmp_path / "a.cs")
        else:
            assert refusal(tmp_path / "a.star", tmp_path / "a.cs") == f"{side}: {what}"
    missing = tmp_path / "no.csv"
    assert refusal(tmp_path / "a.star", tmp_path / "a.cs", uids=missing) == f"{missing}: {what}"


def test_links_need_their_stacks(data_dir, tmp_path):
    source = data_dir / "cryosparc/t20s_particles.cs"
    assert refusal(source, tmp_path / "a.star", link_stacks=True).endswith(
        "no such stack, so no link to it can be made; convert without links"
    )
    assert list(tmp_path.iterdir()) == []


def test_options_and_suffixes(grouped, tmp_path):
    cs = grouped.job / "extracted_particles.cs"
    assert (
        refusal(cs, tmp_path / "a.star", micrograph_y="down") == "--micrograph-y: is 'down'; give same, flipped or auto"
    )
    assert refusal(cs, tmp_path / "a.txt") == (
        f"--to {tmp_path / 'a.txt'}: cannot convert extracted_particles.cs to that; give .star for CryoSPARC files and "
        ".cs for STAR files"
    )
    assert refusal(cs, tmp_path / "a.cs").startswith(f"--to {tmp_path / 'a.cs'}: cannot convert")
    assert refusal(cs, cs) == f"{cs}: is the input itself, which is never written to; give another name"
    assert refusal(tmp_path / "no.cs", tmp_path / "a.star") == (
        f"{tmp_path / 'no.cs'}: no such file; check the path, which is taken from the current directory"
    )
    with pytest.raises(InputError, match="no such file"):
        star_to_cs(tmp_path / "no.star", tmp_path / "a.cs")
