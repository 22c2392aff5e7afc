"""Outlier removal as RELION starts it, without RELION."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
import starfile
from interop.relion_project import write_particles
from support import blob_stack

from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.runs.directory import STATE
from napari_pickbias.runs.outliers import OutlierRun
from pickbias_relion.external_outliers import PROGRAM, closing_lines, main

JOB = "External/job002"
WORDS = ["--o", f"{JOB}/", "--in_parts", "Particles/particles.star", "--radius", "48", "--j", "1"]
SUCCESS, FAILURE = "RELION_JOB_EXIT_SUCCESS", "RELION_JOB_EXIT_FAILURE"
RESULTS = {
    "particles": 400,
    "kept": 300,
    "rejected_by_reason": {"noise": 60, "partial": 30, "multiple": 10},
    "expected_fdr": 0.0123,
    "warnings": ["the data carry no CTF"],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exit_files(project: Path) -> list[str]:
    return sorted(path.name for path in (project / JOB).glob("RELION_JOB_*"))


def small_set(project: Path, signal: float = 1.2) -> np.ndarray:
    images, labels = blob_stack(150, 17, box=48, radius=12.0, signal=signal, seed=3)
    write_particles(project, images, 4.0)
    return labels


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures, which take longest and are tested elsewhere."""

    def write(result: Any, summary: Any, directory: Path, name: str) -> dict[str, Path]:
        files = {"html": directory / "report.html", "pdf": directory / f"{name}.pdf"}
        for path in files.values():
            path.write_text("report")
        return files

    monkeypatch.setattr("napari_pickbias.runs.outliers.write_outlier_report", write)


@pytest.fixture
def fake_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the run by one that writes the named files."""
    small_set(project)

    def install(*names: str, finished: bool = False) -> None:
        def run(
            source: Any, parameters: Any, out: Path, *, threads: int, shared: bool, report_name: str
        ) -> Generator[Progress, None, OutlierRun]:
            assert (shared, report_name, threads) == (True, "logfile", 1)
            yield Progress("judge", 0, 10)
            keys = {"kept.star": "kept", "rejected.star": "rejected", "logfile.pdf": "pdf", "report.html": "html"}
            files = {keys[name]: out / name for name in names}
            for path in files.values():
                path.write_text("written")
            (out / "summary.json").write_text(json.dumps({"results": RESULTS}))
            return OutlierRun(out, files, None if finished else {"results": RESULTS}, None)

        monkeypatch.setattr("napari_pickbias.runs.outliers.run_outliers", run)

    return install


def test_a_real_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = small_set(project)
    assert main(WORDS) == 0
    assert exit_files(project) == [SUCCESS]
    out, err = capsys.readouterr()
    assert err == ""
    kept = starfile.read(project / JOB / "kept.star")["particles"]
    rejected = starfile.read(project / JOB / "rejected.star")["particles"]
    assert len(kept) + len(rejected) == len(labels)
    keep = np.isin(np.arange(len(labels)) + 1, [int(name.split("@")[0]) for name in kept["rlnImageName"]])
    # The same particles in RELION's own projects: tests/interop/test_relion_outliers.py.
    assert keep[labels == 0].mean() > 0.9
    assert keep[labels != 0].mean() < 0.3
    nodes = starfile.read(project / JOB / "RELION_OUTPUT_NODES.star")
    assert nodes["rlnPipeLineNodeName"].tolist() == [f"{JOB}/{name}" for name in PROGRAM.outputs]
    assert len(pypdf.PdfReader(project / JOB / "logfile.pdf").pages) >= 1
    assert f"report: {JOB}/report.html" in out.splitlines()
    # RELION gives one directory for everything: nothing is written beside it.
    assert sorted(path.name for path in project.iterdir()) == ["External", "Particles"]


@pytest.mark.usefixtures("quick_report")
def test_nothing_kept_is_a_failure_without_particle_nodes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_set(project, signal=0.0)
    words = [*WORDS, "--remove-when-hopeless", "--false-keep-rate", "0.0001"]
    assert main(words) == 2
    assert exit_files(project) == [FAILURE]
    assert capsys.readouterr().err == (
        "Particles/particles.star: none of the 201 particles was kept, so no kept file was written; see "
        f"{JOB}/report.html and check --radius, --contrast and the pixel size\n"
    )
    left = {path.name for path in (project / JOB).iterdir()}
    assert {"rejected.star", "report.html"} <= left
    assert not {"kept.star", "RELION_OUTPUT_NODES.star"} & left


@pytest.mark.usefixtures("quick_report")
def test_continue_with_the_same_input_other_parameters_and_missing_files(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_set(project)
    words = [*WORDS, "--method", "reference"]  # nothing to learn: the faster of the two
    assert main(words) == 0
    first = capsys.readouterr().out.splitlines()
    kept = project / JOB / "kept.star"
    text, time = kept.read_text(), kept.stat().st_mtime_ns

    # The same again: nothing to do, the same closing lines and nodes.
    assert main(words) == 0
    again = capsys.readouterr().out.splitlines()
    assert "finished: External/job002: this run is finished already; nothing to do" in again
    assert again[-5:] == first[-5:]
    assert kept.stat().st_mtime_ns == time
    assert "kept.star 3 " in (project / JOB / "RELION_OUTPUT_NODES.star").read_text()

    # A file was deleted: the run is done again.
    kept.unlink()
    assert main(words) == 0
    assert kept.read_text() == text

    # Other parameters: the files are replaced, a failure among them leaves none of the old.
    assert main([*words, "--seed", "1"]) == 0
    assert main([*words, "--radius", "wide"]) == 2
    assert exit_files(project) == [FAILURE]
    left = {path.name for path in (project / JOB).iterdir()}
    assert not set(PROGRAM.outputs) & left

    # And from there the first parameters give the first result.
    assert main(words) == 0
    assert kept.read_text() == text


@pytest.mark.parametrize(
    ("job_star", "label"),
    [
        ("# version 30001\n\ndata_job\n\n_rlnJobType    99\n", "ParticleGroupMetadata.star.relion"),
        ("# version 30001\n\ndata_job\n\n_rlnJobTypeLabel    relion.external\n", "ParticlesData.star.relion"),
        ("# version 50001\n\ndata_job\n\n_rlnJobTypeLabel    relion.external\n", "ParticleGroupMetadata.star.relion"),
    ],
    ids=["3.1", "4.0", "5.0"],
)
def test_labels_of_the_release_that_runs_the_job(
    project: Path, fake_run: Callable[..., None], job_star: str, label: str
) -> None:
    fake_run("kept.star", "rejected.star", "logfile.pdf", "report.html")
    (project / JOB).mkdir(parents=True)
    (project / JOB / "job.star").write_text(job_star)
    assert main(WORDS) == 0
    nodes = starfile.read(project / JOB / "RELION_OUTPUT_NODES.star")
    assert nodes["rlnPipeLineNodeType"].tolist() == [3, 3, 13]
    assert nodes["rlnPipeLineNodeTypeLabel"].tolist() == [label, label, "LogFile.pdf.relion"]


def test_nothing_rejected_is_no_node_for_it(project: Path, fake_run: Callable[..., None]) -> None:
    (project / JOB).mkdir(parents=True)
    (project / JOB / "rejected.star").write_text("of an earlier run")
    fake_run("kept.star", "logfile.pdf", "report.html")
    assert main(WORDS) == 0
    nodes = starfile.read(project / JOB / "RELION_OUTPUT_NODES.star")
    assert nodes["rlnPipeLineNodeName"].tolist() == [f"{JOB}/kept.star", f"{JOB}/logfile.pdf"]
    assert not (project / JOB / "rejected.star").exists()


def test_a_run_finished_before_tells_its_figures_from_the_summary(
    project: Path, fake_run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run("kept.star", "rejected.star", "logfile.pdf", "report.html", finished=True)
    assert main(WORDS) == 0
    assert "kept 300 of 400 particles (75.0%); rejected: 60 noise, 30 partial, 10 multiple" in capsys.readouterr().out


def test_a_finished_run_without_its_kept_file_is_a_fault(
    project: Path, fake_run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run("rejected.star", "logfile.pdf", finished=True)
    assert main(WORDS) == 2
    assert exit_files(project) == [FAILURE]
    assert capsys.readouterr().err == f"{JOB}/kept.star: is missing; run the job again\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--in_parts", "Particles/stack.mrcs"],
            '--in_parts Particles/stack.mrcs: is no STAR file; choose one under "Input particles" on the Input tab\n',
        ),
        (
            ["--in_parts", "Import/job001/particles.star"],
            "Import/job001/particles.star: no such file; check the path, which is taken from the current directory\n",
        ),
        ([], '--in_parts: no file was given; choose one under "Input particles" on the Input tab\n'),
    ],
)
def test_an_input_that_cannot_serve(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    small_set(project)
    assert main(["--o", f"{JOB}/", *words, "--j", "1"]) == 2
    assert exit_files(project) == [FAILURE]
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("listed", ['["kept.star", "logfile.pdf"]', '["kept.star", "gone.csv"]', "not json", None])
def test_the_mark_of_a_finished_run_stands_only_with_its_files(
    project: Path, fake_run: Callable[..., None], listed: str | None
) -> None:
    state = project / JOB / STATE
    state.mkdir(parents=True)
    (state / "finished").touch()
    for name in ("kept.star", "logfile.pdf"):
        (project / JOB / name).touch()
    if listed is not None:
        (state / "outputs.json").write_text(listed)
    fake_run("kept.star", "logfile.pdf")
    assert main(WORDS) == 0
    assert (state / "finished").exists() == (listed is not None and listed.endswith('"logfile.pdf"]'))


def test_closing_lines() -> None:
    files = {key: Path(JOB) / name for key, name in (("kept", "kept.star"), ("html", "report.html"))}
    assert closing_lines(RESULTS, files) == [
        "kept 300 of 400 particles (75.0%); rejected: 60 noise, 30 partial, 10 multiple",
        "expected share of bad particles among the kept: 1.2%",
        "WARNING: the data carry no CTF",
        f"kept particles: {JOB}/kept.star",
        f"report: {JOB}/report.html",
    ]
    assert len(closing_lines(RESULTS | {"expected_fdr": None, "warnings": []}, files)) == 3


def test_the_guide_names_every_parameter_and_every_file() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "relion.md").read_text(encoding="utf-8")
    assert [name for name in OutlierParameters.model_fields if f"`{name}`" not in guide] == []
    assert [name for name in PROGRAM.outputs if f"`{name}`" not in guide] == []
