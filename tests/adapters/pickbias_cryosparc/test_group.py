"""Files of one job output are found and joined on uid, or refused with one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from pickbias_cryosparc.group import contained, open_group


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        open_group(path)
    return str(caught.value)


def check_join(group, project) -> None:
    """Every row has its own location, whatever the order of the passthrough file."""
    by_uid = {row["uid"]: row for row in project.passthrough}
    np.testing.assert_array_equal(group.column("uid"), project.main["uid"])
    np.testing.assert_array_equal(group.column("blob/idx"), project.main["blob/idx"])
    for name in project.passthrough.dtype.names[1:]:
        expected = np.array([by_uid[u][name] for u in project.main["uid"]])
        np.testing.assert_array_equal(group.column(name), expected)


@pytest.mark.parametrize("opened", ["extracted_particles.cs", "J30_particles.csg", "", "J30_passthrough_particles.cs"])
def test_a_job_folder_with_a_csg(grouped, opened):
    group = open_group(grouped.job / opened)
    check_join(group, grouped)
    assert group.description.version == "v4.7.1"
    assert group.description.types["location"] == "particle.location"
    assert group.folder == grouped.job
    assert group.fields[:2] == ["uid", "blob/path"]
    assert set(group.fields) == {*grouped.main.dtype.names, *grouped.passthrough.dtype.names}


def test_the_join_is_the_clients(grouped):
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset
    files = [grouped.job / "extracted_particles.cs", grouped.job / "J30_passthrough_particles.cs"]
    theirs = dataset.innerjoin(*(dataset.load(str(f)) for f in files))
    group = open_group(grouped.job)
    for name in group.fields:
        mine = group.column(name)
        mine = [bytes(v).decode() for v in mine] if mine.dtype.kind == "S" else mine
        np.testing.assert_array_equal(np.asarray(theirs[name]).tolist(), np.asarray(mine).tolist())


@pytest.mark.parametrize("opened", ["extracted_particles.cs", ""])
@pytest.mark.parametrize("version", [4, 5])
def test_a_job_folder_with_a_job_json(project, write_job_json, version, opened):
    (project.job / "job.json").write_text(write_job_json(version))
    group = open_group(project.job / opened)
    check_join(group, project)
    assert group.description.title == "Particles extracted"
    assert group.description.types["blob"] == "particle.blob"
    assert [t.path.name for t in group.tables] == ["extracted_particles.cs", "J30_passthrough_particles.cs"]


@pytest.mark.parametrize("version", [4, 5])
def test_an_earlier_iteration_of_a_job(project, write_job_json, save_cs, version):
    (project.job / "job.json").write_text(write_job_json(version))
    early = project.main.copy()
    early["alignments3D/shift"] += 1
    save_cs(project.job / "J30_000_particles.cs", early)
    group = open_group(project.job / "J30_000_particles.cs")
    np.testing.assert_array_equal(group.column("alignments3D/shift"), early["alignments3D/shift"])
    assert group.has("location/center_x_frac")


def test_a_passthrough_file_is_found_by_its_name(project):
    group = open_group(project.job / "extracted_particles.cs")
    check_join(group, project)
    assert group.description is None


def test_a_passthrough_file_of_other_particles_is_left_alone(project, save_cs):
    other = project.passthrough.copy()
    other["uid"] += np.uint64(1)
    save_cs(project.job / "J30_passthrough_particles.cs", other)
    group = open_group(project.job / "extracted_particles.cs")
    assert len(group.tables) == 1
    assert not group.has("location/center_x_frac")


def test_selected_and_excluded_have_partners_of_their_own(project, save_cs):
    keep = np.arange(len(project.main)) < 5
    for name, rows in (("selected", keep), ("excluded", ~keep)):
        uids = project.main["uid"][rows]
        save_cs(project.job / f"particles_{name}.cs", project.main[rows])
        mine = project.passthrough[np.isin(project.passthrough["uid"], uids)]
        save_cs(project.job / f"J30_passthrough_particles_{name}.cs", mine)
    (project.job / "J30_passthrough_particles.cs").unlink()
    group = open_group(project.job / "particles_excluded.cs")
    assert [t.path.name for t in group.tables] == ["particles_excluded.cs", "J30_passthrough_particles_excluded.cs"]
    assert len(group) == 7


def test_an_export_is_one_file(project, save_cs, write_csg, make_table):
    export = project.root / "exports/groups/J30_particles"
    rows = make_table(
        len(project.main),
        {n: project.main[n] for n in project.main.dtype.names}
        | {n: np.sort(project.passthrough, order="uid")[n] for n in project.passthrough.dtype.names if n != "uid"},
    )
    save_cs(export / "J30_particles_exported.cs", rows)
    slots = dict.fromkeys(("blob", "ctf", "alignments3D", "location"), ">J30_particles_exported.cs")
    (export / "J30_particles_exported.csg").write_text(write_csg(slots))
    for path in (export, export / "J30_particles_exported.cs", export / "J30_particles_exported.csg"):
        assert len(open_group(path).tables) == 1
        assert open_group(path).has("location/center_x_frac")


def test_metafiles_without_a_mark_start_at_the_project(project, write_csg):
    slots = {"blob": "J30/extracted_particles.cs", "location": "J30/J30_passthrough_particles.cs"}
    (project.job / "x.csg").write_text(write_csg(slots))
    check_join(open_group(project.job / "x.csg"), project)


def test_a_passthrough_file_with_more_rows(grouped, save_cs):
    fewer = grouped.main[3:]
    save_cs(grouped.job / "extracted_particles.cs", fewer)
    group = open_group(grouped.job)
    assert len(group) == 9
    place = {u: i for i, u in enumerate(grouped.passthrough["uid"])}
    expected = grouped.passthrough["location/center_x_frac"][[place[u] for u in fewer["uid"]]]
    np.testing.assert_array_equal(group.column("location/center_x_frac"), expected)


# -- faults -----------------------------------------------------------------------------------------------------------


def test_uids_that_do_not_match(grouped, save_cs):
    wrong = grouped.passthrough.copy()
    lost = wrong["uid"][4]
    wrong["uid"][4] += np.uint64(1)
    path = save_cs(grouped.job / "J30_passthrough_particles.cs", wrong)
    assert refusal(grouped.job / "J30_particles.csg") == (
        f"{path}: lacks 1 of the 12 uids of extracted_particles.cs (the first is {lost}); the two are not of one job "
        "output"
    )


def test_uids_that_repeat(project, save_cs):
    rows = project.main.copy()
    rows["uid"][7] = rows["uid"][2]
    path = save_cs(project.job / "extracted_particles.cs", rows)
    (project.job / "J30_passthrough_particles.cs").unlink()
    assert refusal(path) == (
        f"{path}: the uid {rows['uid'][2]} stands in more than one row, so rows cannot be told apart; export the job "
        "again"
    )


def test_no_rows(grouped, save_cs):
    path = save_cs(grouped.job / "extracted_particles.cs", grouped.main[:0])
    assert refusal(grouped.job) == f"{path}: holds no particles (0 rows); choose another output of the job"


def test_other_tables(data_dir):
    path = data_dir / "cryosparc/t20s_movies.cs"
    assert refusal(path) == (
        f"{path}: holds no particles but movie_blob, gain_ref_blob, mscope_params, micrograph_blob; give a particle "
        "output of the job"
    )


def test_a_missing_field(grouped):
    group = open_group(grouped.job)
    with pytest.raises(InputError) as caught:
        group.column("pick_stats/ncc_score")
    assert str(caught.value) == (
        f"{grouped.job}: has no field 'pick_stats/ncc_score'; give the job's .csg file, or a job output that carries "
        "'pick_stats'"
    )


def test_a_metafile_that_is_not_there(grouped):
    partner = grouped.job / "J30_passthrough_particles.cs"
    partner.unlink()
    csg = grouped.job / "J30_particles.csg"
    assert refusal(csg) == f"{csg}: names {partner}, which is not there; copy it beside, or export again"
    group = open_group(grouped.job / "extracted_particles.cs")
    assert group.notes == (
        "J30_particles.csg names J30_passthrough_particles.cs, which is not there; its columns are left out",
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "is not a CryoSPARC group (.csg); export the group again"),
        ("a: 1", "is not a CryoSPARC group (.csg); export the group again"),
        ("group: {type: particle}\nresults: {blob: 3}", "is not a CryoSPARC group (.csg); export the group again"),
        ("group: {type: particle}\nresults: {}", "names no .cs file; export the group again"),
        (
            "group: {type: exposure}\nresults: {}",
            "is a group of type 'exposure', not of particles; give the .csg of the particles",
        ),
        (
            "group: {type: particle}\nresults: {blob: {metafile: '>../secret.cs'}}",
            "its metafile '>../secret.cs' leads out of the project folder and is not followed; export the group again",
        ),
    ],
)
def test_other_csg_files(tmp_path, content, what):
    path = tmp_path / "a.csg"
    path.write_text(content)
    assert refusal(path) == f"{path}: {what}"


def test_a_csg_never_runs_code(tmp_path):
    path = tmp_path / "a.csg"
    path.write_text(f"group: !!python/object/apply:pathlib.Path.touch [!!python/name:x {tmp_path / 'made'}]")
    assert refusal(path).endswith("is not a CryoSPARC group (.csg); export the group again")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["/etc/passwd", ">/etc/x", "../x", ">J1/../../x", "C:\\x", "..\\x", "\\\\host\\x", "", ">"]
)
def test_paths_that_lead_out(text):
    with pytest.raises(InputError, match="leads out of the project folder and is not followed"):
        contained(text, "a.cs: 'blob/path' of row 1")


@pytest.mark.parametrize("text", ["J1/a b/ü..mrc", ">J1/imported/x.mrcs", "x.mrc", "J1/..x/y"])
def test_paths_that_stay_inside(text):
    assert str(contained(text, "")) == text.removeprefix(">")


@pytest.mark.parametrize("version", [4, 5])
def test_a_folder_with_several_groups(project, write_job_json, version):
    (project.job / "job.json").write_text(write_job_json(version, extra=True))
    assert refusal(project.job) == (
        f"{project.job}: holds 2 particle groups; give the file of one of them: extracted_particles.cs, "
        "extracted_particles.cs"
    )


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"spec": 3}', '{"output_results": [{}]}', '{"spec": {"outputs": {}}}']
)
def test_a_job_json_that_tells_nothing(project, content):
    (project.job / "job.json").write_text(content)
    check_join(open_group(project.job / "extracted_particles.cs"), project)
    assert refusal(project.job) == (
        f"{project.job}: holds no particle group (no .csg and no job.json with one); give a particle job's folder or "
        "its .cs file"
    )


def test_nothing_there(tmp_path):
    assert refusal(tmp_path / "no.cs") == (
        f"{tmp_path / 'no.cs'}: no such file; check the path, which is taken from the current directory"
    )


def test_samples(data_dir, tmp_path):
    folder = data_dir / "cryosparc"
    assert len(open_group(folder / "t20s_particles.csg").tables) == 2
    assert len(open_group(folder / "t20s_particles.cs").tables) == 2
    for name in ("t20s_particles_csdat.cs", "t20s_passthrough_particles.cs"):
        shutil.copy(folder / name, tmp_path / name)
    group = open_group(tmp_path / "t20s_particles_csdat.cs")  # both forms in one group
    assert [t.form for t in group.tables] == ["csdat", "numpy"]
    assert group.column("location/micrograph_shape").tolist() == [[7676, 7420]] * 10
    assert isinstance(group.path, Path)
