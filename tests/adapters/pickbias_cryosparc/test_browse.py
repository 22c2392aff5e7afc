"""A CryoSPARC project's jobs."""

from __future__ import annotations

import json
from pathlib import Path

from napari_pickbias.records.projects import open_project


def test_jobs_of_a_project_and_of_a_job_folder(project) -> None:
    other = project.root / "J4"
    other.mkdir()
    for name in (
        "J4_000_volume_map.mrc",
        "J4_012_volume_map.mrc",
        "J4_passthrough_particles.cs",
        "templates.mrc",
        "x.log",
    ):
        (other / name).write_text("")
    (other / "job.json").write_text(json.dumps({"title": "my refinement", "type": "homo_refine"}))
    found = open_project(project.root)
    assert found.pipeline == "CryoSPARC"
    first, second = found.jobs()
    assert (first.name, first.title, second.name) == ("J4", "my refinement", "J30")
    assert [(f.path.name, f.kind) for f in first.files] == [
        ("J4_012_volume_map.mrc", "map"),
        ("templates.mrc", "images"),
    ]
    assert second.files[0].kind == "particles"
    assert all("passthrough" not in f.path.name for f in second.files)
    assert [job.name for job in open_project(project.job).jobs()] == ["J30"]


def test_a_folder_with_particle_groups_is_an_export(tmp_path: Path) -> None:
    (tmp_path / "some_particles.cs").write_text("")
    (job,) = open_project(tmp_path).jobs()
    assert job.files[0].kind == "particles"
    assert job.title == ""
