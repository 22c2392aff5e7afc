"""Particles read into records, and subsets that CryoSPARC imports."""

from __future__ import annotations

import os

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

import pickbias_cryosparc
from napari_pickbias.errors import InputError
from pickbias_cryosparc.source import CryosparcSource


def refusal(action, *args) -> str:
    with pytest.raises(InputError) as caught:
        action(*args)
    return str(caught.value)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_images_are_multiplied_by_their_sign(grouped):
    particles = pickbias_cryosparc.read_particles(grouped.job)
    sign = grouped.main["blob/sign"][:, None, None]
    rows = np.random.default_rng(0).permutation(len(particles))
    np.testing.assert_array_equal(particles.images.read(rows), (grouped.pixels * sign)[rows])
    np.testing.assert_array_equal(particles.images.box_sizes, np.full(12, 8))


def test_columns(grouped):
    particles, main = pickbias_cryosparc.read_particles(grouped.job / "extracted_particles.cs"), grouped.main
    np.testing.assert_array_equal(particles.pixel_size_angstrom, np.full(12, 1.5))
    assert particles.optics_group_names == ("exposure group 23", "exposure group 25")
    np.testing.assert_array_equal(particles.optics_group, np.arange(12) % 2)
    ctf = particles.ctf
    np.testing.assert_array_equal(ctf.defocus_u_angstrom, main["ctf/df1_A"])
    np.testing.assert_array_equal(ctf.defocus_v_angstrom, main["ctf/df2_A"])
    np.testing.assert_allclose(ctf.defocus_angle_deg, np.rad2deg(main["ctf/df_angle_rad"].astype(float)))
    np.testing.assert_allclose(ctf.phase_shift_deg, np.rad2deg(main["ctf/phase_shift_rad"].astype(float)))
    assert set(ctf.voltage_kv) == {300.0}
    assert set(ctf.spherical_aberration_mm) == {2.7}  # not 2.7000000477
    assert set(ctf.amplitude_contrast) == {0.1}
    by_uid = {row["uid"]: row for row in grouped.passthrough}
    x = [by_uid[u]["location/center_x_frac"] * 140 for u in main["uid"]]
    y = [by_uid[u]["location/center_y_frac"] * 100 for u in main["uid"]]
    np.testing.assert_allclose(particles.coordinates_px, np.stack([x, y], axis=1), rtol=1e-6)
    assert particles.micrograph[0] == "J14/mics/000000000000000000007_é_one.mrc"
    assert particles.notes == ()
    assert particles.phase_flipped is False


def test_poses_are_relions(grouped):
    poses = pickbias_cryosparc.read_particles(grouped.job).poses
    rotation = Rotation.from_euler("ZYZ", poses.euler_deg, degrees=True)
    vectors = grouped.main["alignments3D/pose"].astype(float)
    assert np.linalg.norm(vectors, axis=1).max() > np.pi
    np.testing.assert_allclose((rotation * Rotation.from_rotvec(vectors).inv()).magnitude(), 0, atol=1e-12)
    assert poses.euler_deg[:, 1].min() >= 0
    np.testing.assert_allclose(poses.shifts_angstrom, grouped.main["alignments3D/shift"] * 3.0, rtol=1e-6)


def test_the_pixel_size_may_be_given(grouped):
    particles = CryosparcSource(grouped.job).read(2.0)
    assert set(particles.pixel_size_angstrom) == {2.0}
    np.testing.assert_allclose(particles.poses.shifts_angstrom, grouped.main["alignments3D/shift"] * 3.0, rtol=1e-6)


def test_samples(data_dir):
    folder = data_dir / "cryosparc"
    refined = pickbias_cryosparc.read_particles(folder / "cryosparc_P12_J24_001_particles.cs")
    assert (len(refined), refined.poses is not None, refined.micrograph) == (2019, True, None)
    imported = pickbias_cryosparc.read_particles(folder / "empiar_10076_7.cs")
    from napari_pickbias.records.mrc import open_data

    np.testing.assert_array_equal(imported.images.read(np.arange(7)), -open_data(folder / "empiar_10076_7.mrc"))
    assert imported.optics_group_names == ("exposure group 23",)
    assert imported.poses is None  # no refinement yet
    twice = [pickbias_cryosparc.read_particles(folder / f"t20s_particles{s}.cs") for s in ("", "_csdat")]
    np.testing.assert_array_equal(twice[0].coordinates_px, twice[1].coordinates_px)
    assert twice[0].pixel_size_angstrom[0] == 0.6575


def test_aligned_2d_only_is_no_pose(data_dir):
    particles = pickbias_cryosparc.read_particles(data_dir / "cryosparc/cryosparc_J2_particles_exported.cs")
    assert particles.poses is None
    assert particles.ctf is not None


def change(project, save_cs, **fields):
    rows = project.main.copy()
    for name, value in fields.items():
        slot, _, field = name.partition("__")
        rows[f"{slot}/{field}"] = value
    return save_cs(project.job / "extracted_particles.cs", rows)


def test_no_defocus_is_no_ctf(project, save_cs):
    path = change(project, save_cs, ctf__df1_A=0, ctf__df2_A=0)
    particles = pickbias_cryosparc.read_particles(path)
    assert particles.ctf is None
    assert particles.notes == (f"{path}: every defocus is 0, so the CTF counts as unknown",)


def test_what_is_not_used_is_said(project, save_cs):
    path = change(project, save_cs, ctf__tilt_A=0.1, ctf__anisomag=0.1, blob__sign=0)
    particles = pickbias_cryosparc.read_particles(path)
    assert particles.notes == (
        f"{path}: blob/sign is 0 for some particles, taken as +1",
        f"{path}: beam tilt, anisotropic magnification is in the file and not used",
    )
    np.testing.assert_array_equal(particles.images.read(np.arange(12)), project.pixels)


def test_missing_stacks_are_said_where_and_refused_when_read(project):
    for stack in (project.job / "extract").iterdir():
        stack.unlink()
    particles = pickbias_cryosparc.read_particles(project.job / "extracted_particles.cs")
    assert len(particles.notes) == 1
    name = "J30/extract/000000000000000000007_é_one_particles.mrc"
    assert f"the stack {name} is in none of the folders {project.root}, " in particles.notes[0]
    text = refusal(particles.images.read, np.array([2]))
    assert text.startswith(f"{project.root / name}: no such file")
    assert text.endswith("(needed by particle row 3)")


def test_images_are_found_from_any_folder_inside_the_project(project):
    deep = project.root / "somewhere" / "else"
    deep.mkdir(parents=True)
    for name in ("extracted_particles.cs", "J30_passthrough_particles.cs"):
        (project.job / name).rename(deep / name)
    particles = pickbias_cryosparc.read_particles(deep / "extracted_particles.cs")
    assert particles.images.read(np.array([0])).shape == (1, 8, 8)
    deep = project.root / "a/b/c/d/e/f"
    deep.mkdir(parents=True)
    (project.root / "project.json").touch()
    (project.root / "somewhere/else/extracted_particles.cs").rename(deep / "x.cs")
    assert pickbias_cryosparc.read_particles(deep / "x.cs").images.read(np.array([0])).shape == (1, 8, 8)


def test_input_files(grouped):
    stacks = [grouped.job / f"extract/00000000000000000000{m}_particles.mrc" for m in ("7_é_one", "8_two")]
    tables = [grouped.job / "extracted_particles.cs", grouped.job / "J30_passthrough_particles.cs"]
    csg = grouped.job / "J30_particles.csg"
    assert CryosparcSource(grouped.job).input_files() == [*tables, csg, *stacks]
    assert CryosparcSource(tables[0]).input_files() == [*tables, csg, *stacks]
    assert CryosparcSource(csg).input_files() == [csg, *tables, *stacks]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"blob__path": b"../other/x.mrc"}, "'blob/path' of row 1 '../other/x.mrc' leads out of the project folder and "
         "is not followed; export the group again"),
        ({"blob__path": b"/etc/passwd"}, "'blob/path' of row 1 '/etc/passwd' leads out of the project folder and is "
         "not followed; export the group again"),
        ({"blob__path": b""}, "'blob/path' of row 1 is empty; give an extraction or import job's file"),
        ({"blob__shape": [8, 9]}, "the image of row 1 is 8×9 px; particles need square boxes, so give the output of an "
         "extraction job"),
        ({"blob__shape": 0}, "the image of row 1 is 0×0 px; particles need square boxes, so give the output of an "
         "extraction job"),
        ({"blob__psize_A": 0}, "the pixel size of row 1 is 0 Å; give it with --pixel-size"),
        ({"blob__psize_A": np.nan}, "the pixel size of row 1 is nan Å; give it with --pixel-size"),
        ({"ctf__df1_A": [1e4] * 11 + [np.inf]}, "'ctf/df1_A' of row 12 is no number; run the job again or leave that "
         "particle out"),
        ({"alignments3D__pose": np.nan}, "'alignments3D/pose' of row 1 is no number; run the job again or leave that "
         "particle out"),
    ],
)  # fmt: skip
def test_values_that_cannot_be(project, save_cs, fields, what):
    path = change(project, save_cs, **fields)
    assert refusal(pickbias_cryosparc.read_particles, path) == f"{path}: {what}"


def test_picks_without_images(project, save_cs, make_table):
    keep = list(project.passthrough.dtype.names)
    path = save_cs(project.root / "J9/picks.cs", make_table(12, {n: project.passthrough[n] for n in keep}))
    assert refusal(pickbias_cryosparc.read_particles, path) == (
        f"{path}: has no field 'blob/path'; give the job's .csg file, or a job output that carries 'blob'"
    )


def test_a_missing_pixel_size(project, save_cs, make_table):
    names = [n for n in project.main.dtype.names if n != "blob/psize_A"]
    path = save_cs(project.job / "extracted_particles.cs", make_table(12, {n: project.main[n] for n in names}))
    assert refusal(pickbias_cryosparc.read_particles, path) == (
        f"{path}: has no field 'blob/psize_A'; give the pixel size in Å with --pixel-size"
    )
    assert set(CryosparcSource(path).read(1.25).pixel_size_angstrom) == {1.25}


# -- subsets ----------------------------------------------------------------------------------------------------------

KEEP = np.array([True, False, True, True, False, False, True, False, True, True, False, True])


def test_a_subset_keeps_rows_byte_for_byte(grouped, tmp_path):
    target = tmp_path / "kept.cs"
    written = pickbias_cryosparc.write_subset(grouped.job, KEEP, target)
    assert written == [target, tmp_path / "kept_passthrough.cs", tmp_path / "kept.csg"]
    main, partner = np.load(target), np.load(written[1])
    assert main.dtype == grouped.main.dtype
    assert main.tobytes() == grouped.main[KEEP].tobytes()
    theirs = np.isin(grouped.passthrough["uid"], grouped.main["uid"][KEEP])
    assert partner.tobytes() == grouped.passthrough[theirs].tobytes()


def test_the_csg_follows_the_documented_rules(grouped, tmp_path):
    pickbias_cryosparc.write_subset(grouped.job, KEEP, tmp_path / "kept.cs")
    content = yaml.safe_load((tmp_path / "kept.csg").read_text())
    assert content.pop("created")
    main = {"metafile": ">kept.cs", "num_items": 7}
    assert content == {
        "group": {"description": "Extracted", "name": "particles", "title": "Particles", "type": "particle"},
        "results": {
            "blob": {**main, "type": "particle.blob"},
            "ctf": {**main, "type": "particle.ctf"},
            "alignments3D": {**main, "type": "particle.alignments3D"},
            "location": {"metafile": ">kept_passthrough.cs", "num_items": 7, "type": "particle.location"},
        },
        "version": "v4.7.1",
    }


def test_a_csg_without_a_model(project, tmp_path):
    pickbias_cryosparc.write_subset(project.job / "extracted_particles.cs", KEEP, tmp_path / "kept.cs")
    results = yaml.safe_load((tmp_path / "kept.csg").read_text())["results"]
    assert {slot: r["metafile"] for slot, r in results.items()} == {
        "blob": ">kept.cs",
        "ctf": ">kept.cs",
        "alignments3D": ">kept.cs",
        "location": ">kept_passthrough.cs",
    }


def test_slot_types_without_a_model(data_dir, tmp_path):
    from pickbias_cryosparc.source import _slot_type

    assert _slot_type("alignments_class_3") == "particle.alignments3D"
    assert _slot_type("components_mode_12") == "particle.components"
    assert _slot_type("blob") == "particle.blob"


@pytest.mark.parametrize("opened", ["kept.cs", "kept.csg"])
def test_a_subset_reads_back_with_its_images(grouped, tmp_path, opened):
    """Also from outside the project: links lead to the images, as in CryoSPARC's exports."""
    pickbias_cryosparc.write_subset(grouped.job, KEEP, tmp_path / "out.cs")  # a neighbour
    (tmp_path / "elsewhere").mkdir()
    pickbias_cryosparc.write_subset(grouped.job, KEEP, tmp_path / "elsewhere" / "kept.cs")
    particles = pickbias_cryosparc.read_particles(tmp_path / "elsewhere" / opened)
    whole = pickbias_cryosparc.read_particles(grouped.job)
    rows = np.flatnonzero(KEEP)
    np.testing.assert_array_equal(particles.images.read(np.arange(7)), whole.images.read(rows))
    np.testing.assert_array_equal(particles.coordinates_px, whole.coordinates_px[rows])
    np.testing.assert_array_equal(particles.poses.euler_deg, whole.poses.euler_deg[rows])
    assert (tmp_path / "elsewhere" / "J30").is_symlink()


def test_relative_paths_with_dots(grouped, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(grouped.root)
    pickbias_cryosparc.write_subset("J30", KEEP, "../out/kept.cs")
    assert (tmp_path / "out/J30").is_symlink()
    monkeypatch.chdir("/")
    assert pickbias_cryosparc.read_particles(tmp_path / "out/kept.cs").images.read(np.arange(7)).shape == (7, 8, 8)
    monkeypatch.chdir(grouped.job)
    assert CryosparcSource("extracted_particles.cs").read().images.read(np.array([0])).shape == (1, 8, 8)
    assert CryosparcSource(".").read().images.read(np.array([0])).shape == (1, 8, 8)


def test_the_same_subset_has_the_same_bytes(grouped, tmp_path):
    written = pickbias_cryosparc.write_subset(grouped.job, KEEP, tmp_path / "kept.cs")
    first = [p.read_bytes() for p in written]
    pickbias_cryosparc.write_subset(grouped.job, KEEP, tmp_path / "kept.cs")
    assert [p.read_bytes() for p in written] == first


def test_no_links_inside_the_project(grouped):
    out = grouped.root / "pickbias"
    out.mkdir()
    pickbias_cryosparc.write_subset(grouped.job, KEEP, out / "kept.cs")
    assert sorted(p.name for p in out.iterdir()) == ["kept.cs", "kept.csg", "kept_passthrough.cs"]
    assert pickbias_cryosparc.read_particles(out / "kept.cs").images.read(np.array([0])).shape == (1, 8, 8)


def export_of(grouped, save_cs, write_csg, make_table):
    """An export: one file, image paths that start from its folder, images behind links."""
    export = grouped.root / "exports/groups/J30_particles"
    rows = grouped.main.copy()
    paths = np.array([b">" + bytes(p) for p in rows["blob/path"]])
    rows = make_table(12, {n: paths if n == "blob/path" else rows[n] for n in rows.dtype.names})
    save_cs(export / "J30_particles_exported.cs", rows)
    slots = dict.fromkeys(("blob", "ctf", "alignments3D"), ">J30_particles_exported.cs")
    (export / "J30_particles_exported.csg").write_text(write_csg(slots))
    (export / "J30").mkdir()
    (export / "J30/extract").symlink_to(os.path.relpath(grouped.job / "extract", export / "J30"))
    return export, rows


def test_exports(grouped, tmp_path, save_cs, write_csg, make_table):
    export, rows = export_of(grouped, save_cs, write_csg, make_table)
    whole = pickbias_cryosparc.read_particles(export)
    sign = rows["blob/sign"][:, None, None]
    np.testing.assert_array_equal(whole.images.read(np.arange(12)), grouped.pixels * sign)
    for folder in (export, tmp_path / "out", grouped.root / "pickbias"):
        folder.mkdir(exist_ok=True)
        written = pickbias_cryosparc.write_subset(export / "J30_particles_exported.cs", KEEP, folder / "kept.cs")
        assert [p.name for p in written] == ["kept.cs", "kept.csg"]
        assert np.load(folder / "kept.cs").tobytes() == rows[KEEP].tobytes()
        again = pickbias_cryosparc.read_particles(folder / "kept.csg")
        np.testing.assert_array_equal(again.images.read(np.arange(7)), whole.images.read(np.flatnonzero(KEEP)))
    assert not (export / "J30").is_symlink()


def test_links_are_renewed_and_nothing_else_is_replaced(grouped, tmp_path):
    (tmp_path / "J30").symlink_to("nowhere")
    pickbias_cryosparc.write_subset(grouped.job, KEEP, tmp_path / "kept.cs")
    assert (tmp_path / "J30").resolve() == grouped.job.resolve()
    (tmp_path / "J30").unlink()
    (tmp_path / "J30").mkdir()
    assert refusal(pickbias_cryosparc.write_subset, grouped.job, KEEP, tmp_path / "kept.cs") == (
        f"{tmp_path / 'J30'}: is in the way of the link to the images in {grouped.job}; write to another folder"
    )


def test_columns_go_into_a_table_of_their_own(grouped, tmp_path):
    columns = {
        "pickbiasScore": np.linspace(0, 1, 12),
        "pickbiasPValue": np.linspace(0, 1, 12).astype(np.float16),
        "pickbiasReason": np.array(["noise", "", "ü"] * 4),
        "isKept": KEEP,
        "centers": np.arange(24.0).reshape(12, 2),
    }
    written = pickbias_cryosparc.write_subset(grouped.job, KEEP, tmp_path / "kept.cs", columns)
    assert written[-1] == tmp_path / "kept_pickbias.cs"
    own = np.load(written[-1])
    np.testing.assert_array_equal(own["uid"], grouped.main["uid"][KEEP])
    np.testing.assert_array_equal(own["pickbias/score"], columns["pickbiasScore"][KEEP])
    np.testing.assert_array_equal(own["pickbias/p_value"], columns["pickbiasPValue"][KEEP].astype(np.float32))
    assert [bytes(v).decode() for v in own["pickbias/reason"]] == columns["pickbiasReason"][KEEP].tolist()
    np.testing.assert_array_equal(own["pickbias/is_kept"], np.ones(7))
    np.testing.assert_array_equal(own["pickbias/centers"], columns["centers"][KEEP])
    assert np.load(tmp_path / "kept.cs").dtype == grouped.main.dtype
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset
    assert len(dataset.load(str(written[-1]))) == 7
    joined = dataset.innerjoin(*(dataset.load(str(p)) for p in written if p.suffix == ".cs"))
    assert list(joined["uid"]) == grouped.main["uid"][KEEP].tolist()


def test_nothing_kept(grouped, tmp_path):
    pickbias_cryosparc.write_subset(grouped.job, np.zeros(12, bool), tmp_path / "none.cs", {"a": np.zeros(12)})
    assert np.load(tmp_path / "none.cs").dtype == grouped.main.dtype
    assert len(np.load(tmp_path / "none.cs")) == 0
    assert yaml.safe_load((tmp_path / "none.csg").read_text())["results"]["blob"]["num_items"] == 0
    assert refusal(pickbias_cryosparc.read_particles, tmp_path / "none.cs") == (
        f"{tmp_path / 'none.cs'}: holds no particles (0 rows); choose another output of the job"
    )


def test_csdat_stays_csdat(data_dir, tmp_path):
    keep = np.arange(10) < 4
    written = pickbias_cryosparc.write_subset(data_dir / "cryosparc/t20s_particles_csdat.cs", keep, tmp_path / "k.cs")
    assert [p.read_bytes()[:6] for p in written[:2]] == [b"\x95CSDAT", b"\x93NUMPY"]
    again = pickbias_cryosparc.read_particles(tmp_path / "k.csg")
    whole = pickbias_cryosparc.read_particles(data_dir / "cryosparc/t20s_particles.cs")
    np.testing.assert_array_equal(again.coordinates_px, whole.coordinates_px[:4])


@pytest.mark.parametrize("name", ["extracted_particles.cs", "J30_passthrough_particles.cs"])
def test_inputs_are_never_written_to(grouped, name):
    before = {p: p.read_bytes() for p in grouped.job.iterdir() if p.is_file()}
    target = grouped.job / name
    assert refusal(pickbias_cryosparc.write_subset, grouped.job, KEEP, target) == (
        f"{target}: is an input file, which is never written to; give another name"
    )
    stem = grouped.job / "J30.cs"  # its partner would be the passthrough file of that name
    (grouped.job / "J30_passthrough.cs").symlink_to("J30_passthrough_particles.cs")
    assert "is an input file" in refusal(pickbias_cryosparc.write_subset, grouped.job, KEEP, stem)
    assert {p: p.read_bytes() for p in before} == before


def test_keep_must_fit(grouped, tmp_path):
    with pytest.raises(ValueError, match="for 12 particles"):
        pickbias_cryosparc.write_subset(grouped.job, KEEP[:-1], tmp_path / "kept.cs")


def test_a_missing_folder(grouped, tmp_path):
    target = tmp_path / "no" / "kept.cs"
    assert refusal(pickbias_cryosparc.write_subset, grouped.job, KEEP, target) == (
        f"{target}: cannot be written: its folder does not exist; create it first"
    )
