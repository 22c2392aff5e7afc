"""The simulation runs that make micrographs: with particles and known truth, or noise like given micrographs."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray
from pydantic import BaseModel

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate_micrographs import noise_like, simulate_micrographs
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters, SimulateNoiseParameters
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.micrographs import open_micrographs
from napari_pickbias.records.mrc import write_mrc
from napari_pickbias.records.volume import read_micrograph, read_volume
from napari_pickbias.report.simulate_micrographs import Shown, write_micrograph_report
from napari_pickbias.runs.directory import RunDirectory, claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.simulate import SimulationRun, noise_spectrum_of
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL, NOISE_TOOL = "pickbias simulate micrographs", "pickbias simulate noise"
SHOWN_PX = 700
"""Longest side of the micrograph in the report."""


def run_simulate_micrographs(
    parameters: SimulateMicrographsParameters,
    out: str | Path,
    *,
    noise_like: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    report: bool = True,
) -> Generator[Progress, None, SimulationRun]:
    """Simulate micrographs into ``out``; yields :class:`Progress`, returns a :class:`SimulationRun`.

    Writes ``micrographs/simulated_0001.mrc`` ..., ``micrographs.star`` (RELION 3.1, with the CTF), ``truth.star`` and
    the common files. Micrographs that an interrupted run has finished are not made again.

    Parameters
    ----------
    parameters : SimulateMicrographsParameters
        ``map`` is ``phantom`` or the path of a map.
    noise_like : str or Path, optional
        Micrograph or stack whose noise spectrum is taken, for ``noise="like"``.
    report : bool
        Whether the report is written.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    start = time.perf_counter()
    volume, voxel, sources = None, None, []
    if parameters.map != "phantom":
        path = Path(parameters.map)
        if not path.exists():
            raise InputError(f"--map {path}: no such file; give a map (.mrc, .map) or phantom")
        found = read_volume(path)
        volume, voxel, sources = found.data, found.voxel_size_angstrom, [path]
    spectrum = None if noise_like is None else noise_spectrum_of(Path(noise_like), parameters.pixel_size)
    if noise_like is not None:
        sources.append(Path(noise_like))
    inputs, chosen = describe_inputs(sources), parameters.model_dump()
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume) as directory:
        if directory.finished:
            yield Progress("finished", 1, 1, f"{directory.path}: this simulation is finished already; nothing to do")
            return _finished(directory)
        with run_log(directory.path / "pickbias.log", TOOL, chosen):
            files, rows, truths = {}, [], []

            def target(number: int) -> Path:
                return directory.path / "micrographs" / f"simulated_{number + 1:04d}.mrc"

            def write(
                number: int, image: NDArray[np.float32] | None, truth: pd.DataFrame, optics: dict[str, float]
            ) -> None:
                path = target(number)
                path.parent.mkdir(exist_ok=True)
                if image is not None:
                    write_mrc(path, image, parameters.pixel_size)
                files[path.name] = path
                name = f"micrographs/{path.name}"
                rows.append({"rlnMicrographName": name, "rlnOpticsGroup": 1, **optics})
                truths.append(truth.assign(rlnMicrographName=name))
                directory.record_outputs(list(files.values()))

            made = yield from simulate_micrographs(
                parameters,
                volume,
                voxel,
                write=write,
                noise_spectrum=spectrum,
                made=lambda number: directory.resumed and target(number).exists(),
            )
            optics = _optics(parameters.pixel_size, parameters if parameters.ctf else None)
            files["micrographs"] = directory.path / "micrographs.star"
            _write_star(files["micrographs"], {"optics": optics, "micrographs": pd.DataFrame(rows)})
            truth = pd.concat(truths, ignore_index=True)
            files["truth"] = directory.path / "truth.star"
            if len(truth):
                truth.insert(0, "rlnMicrographName", truth.pop("rlnMicrographName"))
                _write_star(files["truth"], {"optics": optics, "particles": truth})
            else:
                # RELION cannot read an empty loop.
                files.pop("truth")
            shown = _shown(target(0), truths[0], parameters.pixel_size) if report else None
            summary = _conclude(TOOL, parameters, inputs, made, directory, files, shown, start, report)
        directory.finish()
    return SimulationRun(directory.path, files, summary)


def run_simulate_noise(
    like: Sequence[str],
    parameters: SimulateNoiseParameters,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    report: bool = True,
) -> Generator[Progress, None, SimulationRun]:
    """Make noise micrographs with the spectra of given ones; yields :class:`Progress`.

    Writes ``micrographs/NAME_noise_01.mrc`` ..., ``micrographs.star`` and the common files.

    Parameters
    ----------
    like : sequence of str
        Lists, folders, patterns or files: see :func:`napari_pickbias.records.micrographs.open_micrographs`.
    parameters : SimulateNoiseParameters
        Of the job.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    start = time.perf_counter()
    sets = [open_micrographs(where, parameters.pixel_size) for where in like]
    sources = [path for found in sets for path in found.micrographs.paths]
    pixels = np.concatenate([found.micrographs.pixel_size_angstrom for found in sets])
    inputs = describe_inputs([path for found in sets for path in found.input_files()])
    chosen = {**parameters.model_dump(), "like": list(like)}
    stems = _distinct([path.name.split(".mrc")[0] for path in sources])
    with claim(out, NOISE_TOOL, chosen, inputs, overwrite=overwrite, resume=resume) as directory:
        if directory.finished:
            yield Progress("finished", 1, 1, f"{directory.path}: this simulation is finished already; nothing to do")
            return _finished(directory)
        with run_log(directory.path / "pickbias.log", NOISE_TOOL, chosen):
            folder = directory.path / "micrographs"
            files: dict[str, Path] = {}
            rows, total = [], len(sources) * parameters.count
            yield Progress("noise", 0, total)
            for number, (path, stem) in enumerate(zip(sources, stems, strict=True)):
                for copy in range(parameters.count):
                    target = folder / f"{stem}_noise_{copy + 1:02d}.mrc"
                    if not (directory.resumed and target.exists()):
                        rng = np.random.default_rng([parameters.seed, number, copy])
                        try:
                            image = noise_like(read_micrograph(path), parameters, rng)
                        except InputError as fault:
                            text = str(fault)
                            raise InputError(text if str(path) in text else f"{path}: {text}") from None
                        folder.mkdir(exist_ok=True)
                        write_mrc(target, image, float(pixels[number]))
                    files[target.name] = target
                    rows.append((f"micrographs/{target.name}", float(pixels[number])))
                    directory.record_outputs(list(files.values()))
                    yield Progress("noise", len(rows), total)
            files["micrographs"] = directory.path / "micrographs.star"
            _write_star(files["micrographs"], _noise_tables(rows))
            made = {"micrographs": total, "like": [str(path) for path in sources]}
            shown = _shown(folder / f"{stems[0]}_noise_01.mrc", None, float(pixels[0])) if report else None
            summary = _conclude(NOISE_TOOL, parameters, inputs, made, directory, files, shown, start, report)
        directory.finish()
    return SimulationRun(directory.path, files, summary)


def _finished(directory: RunDirectory) -> SimulationRun:
    path = directory.path
    names = {"micrographs": "micrographs.star", "truth": "truth.star", "html": "report.html"}
    files = {key: path / name for key, name in names.items() if (path / name).exists()}
    return SimulationRun(path, files, read_summary(path / "summary.json"))


def _conclude(
    tool: str,
    parameters: BaseModel,
    inputs: list[dict[str, Any]],
    made: Mapping[str, Any],
    directory: RunDirectory,
    files: dict[str, Path],
    shown: Shown | None,
    start: float,
    report: bool,
) -> dict[str, Any]:
    """Write report and summary, and remember the files as the run's own."""
    seconds = {"simulate": time.perf_counter() - start}
    summary = build_summary(tool, parameters.model_dump(), inputs, made, seconds)
    if report:
        files |= write_micrograph_report(parameters, shown, summary, directory.path)
    seconds["total"] = time.perf_counter() - start
    summary = build_summary(tool, parameters.model_dump(), inputs, made, seconds)
    files |= {"summary": directory.path / "summary.json", "log": directory.path / "pickbias.log"}
    write_summary(files["summary"], summary)
    directory.record_outputs(list(files.values()))
    return summary


def _distinct(stems: Sequence[str]) -> list[str]:
    """Return the stems, numbered where two are the same."""
    if len(set(stems)) == len(stems):
        return list(stems)
    return [f"{number + 1:04d}_{stem}" for number, stem in enumerate(stems)]


def _optics(pixel_size: float, parameters: SimulateMicrographsParameters | None) -> pd.DataFrame:
    # Without a CTF RELION still wants a microscope.
    voltage, aberration, contrast = (
        (parameters.voltage, parameters.spherical_aberration, parameters.amplitude_contrast)
        if parameters is not None
        else (300.0, 2.7, 0.1)
    )
    return pd.DataFrame(
        [
            {
                "rlnOpticsGroup": 1,
                "rlnOpticsGroupName": "opticsGroup1",
                "rlnMicrographPixelSize": pixel_size,
                "rlnMicrographOriginalPixelSize": pixel_size,
                "rlnVoltage": voltage,
                "rlnSphericalAberration": aberration,
                "rlnAmplitudeContrast": contrast,
            }
        ]
    )


def _noise_tables(rows: Sequence[tuple[str, float]]) -> dict[str, pd.DataFrame]:
    sizes = list(dict.fromkeys(pixel for _, pixel in rows))
    optics = pd.concat([_optics(size, None) for size in sizes], ignore_index=True)
    optics["rlnOpticsGroup"] = np.arange(1, len(sizes) + 1)
    optics["rlnOpticsGroupName"] = [f"opticsGroup{number}" for number in optics["rlnOpticsGroup"]]
    micrographs = pd.DataFrame(
        [{"rlnMicrographName": name, "rlnOpticsGroup": sizes.index(pixel) + 1} for name, pixel in rows]
    )
    return {"optics": optics, "micrographs": micrographs}


def _write_star(target: Path, tables: dict[str, pd.DataFrame]) -> None:
    with atomic_path(target) as temporary:
        starfile.write(tables, temporary, float_format="%.6f")
        # The library heads its files with the time, which would make equal runs differ; RELION wants its version.
        body = temporary.read_text(encoding="utf-8").split("\n", 1)[1]
        temporary.write_text(f"\n# version 30001\n{body}", encoding="utf-8")


def _shown(path: Path, truth: pd.DataFrame | None, pixel_size: float) -> Shown:
    """Return a micrograph averaged over blocks of pixels, small enough for a page."""
    image = read_micrograph(path)
    step = max(1, -(-max(image.shape) // SHOWN_PX))
    height, width = (side // step * step for side in image.shape)
    small = image[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
    centres = np.empty((0, 2))
    if truth is not None and len(truth):
        centres = (truth[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(dtype=np.float64) + 0.5) / step - 0.5
    return Shown(path.name, np.asarray(small, np.float32), pixel_size * step, centres)
