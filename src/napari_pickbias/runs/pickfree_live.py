"""How far a reconstruction without picking has come, read from its output folder while it works or afterwards."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pickfree_convergence import chain_table, halves_agreement
from napari_pickbias.records import read_volume
from napari_pickbias.report.pickfree_live import Convergence
from napari_pickbias.runs.directory import STATE

HALVES = ("half1", "half2")


def read_convergence(folder: str | Path) -> Convergence:
    """Return what the iterations finished so far say; empty where nothing is finished yet.

    Raises
    ------
    InputError
        When a table of a finished run is damaged.
    """
    folder = Path(folder)
    if (folder / "convergence.csv").exists():
        return _finished(folder)
    chains: dict[str, pd.DataFrame] = {}
    volumes: dict[str, NDArray[np.float32]] = {}
    for path in sorted((folder / STATE).glob("chain_*.npz")):
        name = path.stem.removeprefix("chain_")
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
                records, volumes[name] = saved["records"], np.asarray(saved["volumes"], np.float32)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue  # being replaced, or removed at the end of the run
        chains[name] = chain_table(records)
    latest = volumes.get("map")
    return Convergence(chains, halves_agreement(volumes, *HALVES), None if latest is None else latest[-1])


def _finished(folder: Path) -> Convergence:
    try:
        table = pd.read_csv(folder / "convergence.csv")
        fsc = pd.read_csv(folder / "fsc.csv")
        names = table.rename(columns={"log_likelihood_per_patch": "log_likelihood", "empty_fraction": "empty"})
        names["chain"] = names["chain"].replace("surrogates", "null")
        agreement = [float(np.nanmean(fsc["half_maps"].to_numpy(np.float64)[1:]))]
    except (OSError, ValueError, KeyError) as fault:
        raise InputError(
            f"{folder}: its tables cannot be read ({type(fault).__name__}); run pickbias pickfree again"
        ) from fault
    chains = {str(name): part.reset_index(drop=True) for name, part in names.groupby("chain")}
    path = folder / "map.mrc"
    return Convergence(chains, agreement, read_volume(path).data if path.exists() else None)
