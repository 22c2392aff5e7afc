"""A RELION project's jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records.projects import open_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    names = {
        "Extract/job009": ["particles.star", "job.star", "default_pipeline.star"],
        "Class2D/job010": [
            "run_it000_data.star",
            "run_it025_data.star",
            "run_it025_classes.mrcs",
            "run_it003_classes.mrcs",
        ],
        "AutoPick/job008": ["autopick.star", "logfile.pdf"],
        "Refine3D/job100": ["run_class001.mrc", "run_data.star", "run_half1_class001_unfil.mrc"],
        "MotionCorr/job002": ["corrected_micrographs.star"],
        "Select/job011": ["note.txt"],
        ".Nodes/1": ["particles.star"],
    }
    for folder, files in names.items():
        (tmp_path / folder).mkdir(parents=True)
        for file in files:
            (tmp_path / folder / file).write_text("")
    (tmp_path / "Class2D" / "first_try").symlink_to("job010")
    return tmp_path


def test_jobs_come_in_their_order_with_their_last_iterations(project: Path) -> None:
    found = open_project(project)
    assert found.pipeline == "RELION"
    jobs = {job.name: job for job in found.jobs()}
    assert list(jobs) == [
        "MotionCorr/job002", "AutoPick/job008", "Extract/job009", "Class2D/job010", "Select/job011", "Refine3D/job100",
    ]  # fmt: skip
    assert [(f.path.name, f.kind) for f in jobs["Class2D/job010"].files] == [
        ("run_it025_data.star", "particles"),
        ("run_it025_classes.mrcs", "images"),
    ]
    assert jobs["Class2D/job010"].title == "first_try"
    assert jobs["Extract/job009"].title == "Extract"
    assert [f.kind for f in jobs["Refine3D/job100"].files] == ["particles", "map", "map"]
    assert jobs["AutoPick/job008"].files[0].kind == "picks"
    assert jobs["Select/job011"].files == ()


def test_a_job_folder_stands_for_itself(project: Path) -> None:
    found = open_project(project / "Extract" / "job009")
    assert found.root == project
    assert [job.name for job in found.jobs()] == ["Extract/job009"]


def test_what_is_no_project_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is neither a RELION project .* nor a CryoSPARC project or job"):
        open_project(tmp_path)
    with pytest.raises(InputError, match="no such folder; choose the folder of a project, or of one of its jobs"):
        open_project(tmp_path / "gone")


def test_a_real_project(data_dir: Path) -> None:
    jobs = {job.name: job for job in open_project(data_dir / "particles/betagal_10204").jobs()}
    assert jobs["AutoPick/job008"].files[0].path.name == "autopick.star"
    assert jobs["Class2D/job010"].files[0].kind == "particles"
