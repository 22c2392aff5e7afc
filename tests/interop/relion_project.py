"""A RELION project driven by the real ``relion_pipeliner``, without a display."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import starfile

SECONDS = 240
STATUS = {0: "Running", 1: "Scheduled", 2: "Succeeded", 3: "Failed", 4: "Aborted"}


@dataclass(frozen=True)
class RelionProject:
    """A project directory and the calls that the GUI would make."""

    directory: Path
    environment: dict[str, str]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a program in the project, with the console scripts of this Python first on the PATH."""
        return subprocess.Popen(
            words,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def call(self, *words: str) -> str:
        """Run a program to its end and return what it said."""
        process = self.start(*words)
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 0, said
        return said

    def add(self, kind: str, **options: object) -> str:
        """Schedule a job and return its directory, ``External/job002/``."""
        number = self.counter()
        text = ";".join(f"{name} == {value}" for name, value in options.items())
        self.call("relion_pipeliner", "--addJob", kind, "--addJobOptions", text)
        return f"{kind}/job{number:03d}/"

    def start_job(self, job: str) -> subprocess.Popen[str]:
        """Let the pipeliner run a scheduled job; it ends when the job has left its exit file."""
        return self.start("relion_pipeliner", "--RunJobs", job, "--sec_wait_after", "1")

    def run(self, kind: str, **options: object) -> str:
        """Schedule a job, run it to its end and return its directory."""
        job = self.add(kind, **options)
        self.again(job)
        return job

    def again(self, job: str) -> None:
        """Run a job (again): what Continue does. The pipeliner's exit code is 0 even where the job failed."""
        process = self.start_job(job)
        try:
            process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def read(self, job: str, name: str) -> str:
        """Return a text file of a job."""
        return (self.directory / job / name).read_text()

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the pipeline, without rows where RELION has not written it."""
        blocks = starfile.read(self.directory / "default_pipeline.star", always_dict=True)
        found = blocks.get(f"pipeline_{name}", pd.DataFrame())
        assert isinstance(found, pd.DataFrame)
        return found

    def counter(self) -> int:
        """Return the number that the next job gets."""
        text = (self.directory / "default_pipeline.star").read_text()
        return int(text.split("_rlnPipeLineJobCounter")[1].split()[0])

    def status(self, job: str) -> str:
        """Return a job's status by its name in RELION 4 and 5, whatever the release."""
        rows = self.table("processes").set_index("rlnPipeLineProcessName").loc[job]
        if "rlnPipeLineProcessStatusLabel" in rows:
            return str(rows["rlnPipeLineProcessStatusLabel"])
        return STATUS[int(rows["rlnPipeLineProcessStatus"])]

    def nodes(self, job: str) -> dict[str, object]:
        """Return the nodes of a job and their type: a number in 3.1, a label later."""
        rows = self.table("nodes")
        label = "rlnPipeLineNodeTypeLabel" if "rlnPipeLineNodeTypeLabel" in rows else "rlnPipeLineNodeType"
        return {n: t for n, t in zip(rows["rlnPipeLineNodeName"], rows[label], strict=True) if n.startswith(job)}

    def edges(self, job: str) -> tuple[set[str], set[str]]:
        """Return what goes into a job and what comes out of it."""
        into, out = self.table("input_edges"), self.table("output_edges")
        inputs = into[into["rlnPipeLineEdgeProcess"] == job]["rlnPipeLineEdgeFromNode"] if len(into) else []
        outputs = out[out["rlnPipeLineEdgeProcess"] == job]["rlnPipeLineEdgeToNode"] if len(out) else []
        return set(inputs), set(outputs)

    def exit_files(self, job: str) -> list[str]:
        """Return the exit and abort files in a job's directory."""
        return sorted(path.name for path in (self.directory / job).glob("RELION_JOB_*"))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what} never came"
        time.sleep(0.02)


def write_particles(directory: Path, images: np.ndarray, pixel_size: float, name: str = "Particles") -> Path:
    """Write a stack and its RELION 3.1 particle STAR file below a project; return the STAR file's path in it."""
    (directory / name).mkdir()
    mrcfile.write(directory / name / "stack.mrcs", images.astype(np.float32), voxel_size=pixel_size)
    rows = "\n".join(
        f"{row:06d}@{name}/stack.mrcs Micrographs/m{row % 5}.mrc {40 + row}.5 {7 * row % 900}.25 1"
        for row in range(1, len(images) + 1)
    )
    path = Path(name) / "particles.star"
    (directory / path).write_text(
        "# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n_rlnVoltage #3\n"
        "_rlnSphericalAberration #4\n_rlnAmplitudeContrast #5\n_rlnImagePixelSize #6\n_rlnImageSize #7\n"
        f"_rlnImageDimensionality #8\nopticsGroup1 1 300.0 2.7 0.1 {pixel_size} {images.shape[-1]} 2\n\n"
        "# version 30001\n\ndata_particles\n\nloop_\n_rlnImageName #1\n_rlnMicrographName #2\n_rlnCoordinateX #3\n"
        f"_rlnCoordinateY #4\n_rlnOpticsGroup #5\n{rows}\n\n"
    )
    return path
