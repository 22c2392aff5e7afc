"""Output nodes, and which release's words they are written in."""

from __future__ import annotations

from pathlib import Path

import pytest
import starfile

from pickbias_relion.nodes import NODE_TYPES, Node, output_nodes_text, write_output_nodes
from pickbias_relion.project import project_path, relion_release

JOB_STAR = {
    "3.1": "\n# version 30001\n\ndata_job\n\n_rlnJobType                            99\n_rlnJobIsContinue    0\n \n",
    "4.0": "\n# version 30001\n\ndata_job\n\n_rlnJobTypeLabel    relion.external\n_rlnJobIsContinue    0\n \n",
    "5.0": "\n# version 50001\n\ndata_job\n\n_rlnJobTypeLabel    relion.external\n_rlnJobIsContinue    0\n \n",
}
PIPELINE = {
    "3.1": "\n# version 30001\n\ndata_pipeline_processes\n\nloop_ \n_rlnPipeLineProcessName #1 \n"
    "_rlnPipeLineProcessType #3 \nExternal/job002/  99 \n \n",
    "4.0": "\n# version 30001\n\ndata_pipeline_nodes\n\nloop_ \n_rlnPipeLineNodeName #1 \n"
    "_rlnPipeLineNodeTypeLabel #2 \nImport/job001/p.star ParticlesData.star.relion \n \n",
    "5.0": "\n# version 50001\n\ndata_pipeline_nodes\n\nloop_ \n_rlnPipeLineNodeName #1 \n"
    "_rlnPipeLineNodeTypeLabel #2 \n_rlnPipeLineNodeTypeLabelDepth #3 \nImport/job001/p.star P.star.relion 1 \n \n",
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    directory = tmp_path / "External" / "job002"
    directory.mkdir(parents=True)
    return directory


@pytest.mark.parametrize("release", JOB_STAR)
def test_job_star_tells_the_release(job: Path, release: str) -> None:
    (job / "job.star").write_text(JOB_STAR[release])
    assert relion_release(job) == release


@pytest.mark.parametrize("release", PIPELINE)
def test_without_job_star_the_pipeline_tells_it(job: Path, release: str) -> None:
    (job.parents[1] / "default_pipeline.star").write_text(PIPELINE[release])
    assert relion_release(job) == release


def test_job_star_is_believed_before_the_pipeline(job: Path) -> None:
    (job / "job.star").write_text(JOB_STAR["4.0"])
    (job.parents[1] / "default_pipeline.star").write_text(PIPELINE["3.1"])
    assert relion_release(job) == "4.0"


def test_a_later_version_tag_speaks_as_the_last_known_release(job: Path) -> None:
    (job / "job.star").write_text(JOB_STAR["5.0"].replace("50001", "60001"))
    assert relion_release(job) == "5.0"


@pytest.mark.parametrize("text", [None, "", "data_job\n", "\udcff\0 no STAR at all"])
def test_nothing_tells_it(job: Path, text: str | None) -> None:
    if text is not None:
        (job / "job.star").write_bytes(text.encode(errors="surrogateescape"))
    assert relion_release(job) is None


NODES = [Node("External/job002/kept.star", "particles"), Node("External/job002/logfile.pdf", "log")]
HEAD = "\ndata_output_nodes\n\nloop_\n_rlnPipeLineNodeName #1\n_rlnPipeLineNodeType #2\n_rlnPipeLineNodeTypeLabel #3\n"


@pytest.mark.parametrize(
    ("release", "label"),
    [
        ("3.1", "ParticleGroupMetadata.star.relion"),
        ("4.0", "ParticlesData.star.relion"),
        ("5.0", "ParticleGroupMetadata.star.relion"),
        (None, "ParticleGroupMetadata.star.relion"),
    ],
)
def test_the_file_has_number_and_label(release: str | None, label: str) -> None:
    assert output_nodes_text(NODES, release) == (
        f"{HEAD}External/job002/kept.star 3 {label}\nExternal/job002/logfile.pdf 13 LogFile.pdf.relion\n"
    )


def test_starfile_reads_what_was_written(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.parents[1])
    nodes = [Node(job / "kept.star", "particles"), Node(f"{job.relative_to(job.parents[1])}//a b.mrc", "map")]
    write_output_nodes(job, nodes, "4.0")
    table = starfile.read(job / "RELION_OUTPUT_NODES.star")
    assert table["rlnPipeLineNodeName"].tolist() == ["External/job002/kept.star", "External/job002/a b.mrc"]
    assert table["rlnPipeLineNodeType"].tolist() == [3, 6]
    assert table["rlnPipeLineNodeTypeLabel"].tolist() == ["ParticlesData.star.relion", "DensityMap.mrc"]


def test_no_nodes_no_file(job: Path) -> None:
    write_output_nodes(job, [], "5.0")
    assert list(job.iterdir()) == []


def test_every_kind_has_a_number_of_its_own() -> None:
    assert len({kind.number for kind in NODE_TYPES.values()}) == len(NODE_TYPES)


def test_paths_are_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "External" / "job002").mkdir(parents=True)
    (tmp_path / "link").symlink_to(project)
    monkeypatch.chdir(project)
    for path in (
        "External/job002/kept.star",
        "External/job002//kept.star",
        "./External/job002/kept.star",
        project / "External/job002/kept.star",
        tmp_path / "link/External/job002/kept.star",
    ):
        assert project_path(path) == "External/job002/kept.star"
    assert project_path(tmp_path / "elsewhere.star") == str(tmp_path / "elsewhere.star")
