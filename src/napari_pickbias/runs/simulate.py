"""The simulation run: a particle stack with known truth, as a RELION user would have it."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import radius_grid, shell_average
from napari_pickbias.imaging.noise import radial_power, welch_power
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate import SimulateParticlesParameters, simulate_particles
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.mrc import StackWriter, open_data, read_header
from napari_pickbias.records.volume import read_volume
from napari_pickbias.report.simulation import write_simulation_report
from napari_pickbias.runs.directory import claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias simulate particles"
TRUTH = ("kind", "amplitude", "second_amplitude", "second_x_angstrom", "second_y_angstrom")
SPECTRUM_TILE_PX, SPECTRUM_IMAGES = 128, 256
EXAMPLES = 8
"""Images of each kind that the report shows: the first ones made."""


@dataclass(frozen=True)
class SimulationRun:
    """A finished simulation: where its files are, and its figures."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any]


def run_simulate_particles(
    parameters: SimulateParticlesParameters,
    out: str | Path,
    *,
    noise_like: str | Path | None = None,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    report: bool = True,
) -> Generator[Progress, None, SimulationRun]:
    """Simulate a particle stack into ``out``; yields :class:`Progress`, returns a :class:`SimulationRun`.

    Writes ``particles.mrcs``, ``particles.star`` (RELION 3.1: optics and particles), ``truth.star`` (the same rows with
    kind, amplitudes and the second particle) and the common files.

    Parameters
    ----------
    parameters : SimulateParticlesParameters
        ``map`` is ``phantom`` or the path of a map.
    noise_like : str or Path, optional
        Micrograph or stack whose noise spectrum is taken, for ``noise="like"``.
    report : bool
        Whether the report is written.
    resume : bool
        An unfinished simulation is made again from its seed, which gives the same bytes.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    start = time.perf_counter()
    volume, voxel, sources = _volume(parameters)
    spectrum = None if noise_like is None else noise_spectrum_of(Path(noise_like), parameters.pixel_size)
    if noise_like is not None:
        sources.append(Path(noise_like))
    inputs = describe_inputs(sources)
    chosen = parameters.model_dump()
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume) as directory:
        path = directory.path
        if directory.finished:
            yield Progress("finished", 1, 1, f"{path}: this simulation is finished already; nothing to do")
            files = {
                "stack": path / "particles.mrcs",
                "particles": path / "particles.star",
                "truth": path / "truth.star",
            }
            return SimulationRun(path, files, read_summary(path / "summary.json"))
        with run_log(path / "pickbias.log", TOOL, chosen):
            tables: list[pd.DataFrame] = []
            examples: dict[str, list[NDArray[np.float32]]] = {}
            stack_path = path / "particles.mrcs"
            shape = (parameters.count, parameters.size, parameters.size)
            with StackWriter(stack_path, shape, parameters.pixel_size) as stack:

                def write_chunk(images: NDArray[np.float32], table: pd.DataFrame) -> None:
                    stack.append(images)
                    tables.append(table)
                    for kind in table["kind"].unique():
                        shown = examples.setdefault(str(kind), [])
                        shown += list(images[(table["kind"] == kind).to_numpy()][: EXAMPLES - len(shown)])

                made = yield from simulate_particles(
                    parameters, volume, voxel, write_chunk=write_chunk, noise_spectrum=spectrum, threads=threads
                )
            files = {"stack": stack_path, **_write_tables(path, pd.concat(tables, ignore_index=True), made["optics"])}
            directory.record_outputs(list(files.values()))
            seconds = {"simulate": time.perf_counter() - start}
            results = {key: value for key, value in made.items() if key != "optics"}
            summary = build_summary(TOOL, chosen, inputs, results, seconds)
            if report:
                yield Progress("report", 0, 1, "writing the report")
                files |= write_simulation_report(parameters, examples, summary, path)
            seconds["total"] = time.perf_counter() - start
            summary = build_summary(TOOL, chosen, inputs, results, seconds)
            files |= {"summary": path / "summary.json", "log": path / "pickbias.log"}
            write_summary(files["summary"], summary)
            directory.record_outputs(list(files.values()))
        directory.finish()
    return SimulationRun(path, files, summary)


def _volume(
    parameters: SimulateParticlesParameters,
) -> tuple[NDArray[np.float32] | None, float | None, list[Path]]:
    if parameters.map == "phantom":
        return None, None, []
    path = Path(parameters.map)
    if not path.exists():
        raise InputError(f"--map {path}: no such file; give a map (.mrc, .map) or phantom")
    volume = read_volume(path)
    return volume.data, volume.voxel_size_angstrom, [path]


def noise_spectrum_of(path: Path, pixel_size: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the radial noise spectrum of a micrograph or stack, in cycles per simulated pixel.

    Raises
    ------
    InputError
        When the file is missing, constant or not finite.
    """
    if not path.exists():
        raise InputError(f"--noise like:{path}: no such file; give a micrograph or stack (.mrc, .mrcs)")
    own_pixel = read_header(path).pixel_size_angstrom or pixel_size
    data = open_data(path)
    images = np.asarray(data[:SPECTRUM_IMAGES] if data.ndim == 3 else data, np.float32)
    if not np.isfinite(images).all() or float(images.std()) == 0:
        raise InputError(f"--noise like:{path}: is constant or holds NaN; give another micrograph or stack")
    if images.ndim == 3:
        # Of a particle stack, the corners: they lie outside the particle's disc.
        frequencies, powers = radial_power(images, radius_grid(images.shape[-1]) > 0.46 * images.shape[-1])
    else:
        tile = min(SPECTRUM_TILE_PX, *images.shape)
        powers = shell_average(welch_power(images, tile, median=True), (tile, tile))
        # The zero frequency of a tile holds what is left of its mean: its neighbour stands in.
        powers[0] = powers[1]
        frequencies = np.arange(len(powers)) / tile
    return frequencies * pixel_size / own_pixel, powers


def _write_tables(path: Path, table: pd.DataFrame, optics: Mapping[str, Any]) -> dict[str, Path]:
    table = table.copy()
    table.insert(0, "rlnImageName", [f"{i + 1:06d}@particles.mrcs" for i in range(len(table))])
    optics_table = pd.DataFrame([dict(optics)])
    files = {"particles": path / "particles.star", "truth": path / "truth.star"}
    # particles.star carries nothing that would tell a method the truth it is tested against.
    for name, rows in (("particles", table.drop(columns=list(TRUTH))), ("truth", table)):
        with atomic_path(files[name]) as temporary:
            starfile.write({"optics": optics_table, "particles": rows}, temporary, float_format="%.6f")
            # The library heads its files with the time, which would make equal runs differ; RELION wants its version.
            body = temporary.read_text(encoding="utf-8").split("\n", 1)[1]
            temporary.write_text(f"\n# version 30001\n{body}", encoding="utf-8")
    return files
