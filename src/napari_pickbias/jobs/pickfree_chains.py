"""Chains of a reconstruction that survive a kill: every finished iteration is kept."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import astuple, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.pickfree.chain import Model, Options, Record, Stage, State
from napari_pickbias.pickfree.reconstruct import run_stages

Array32 = NDArray[np.float32]


@dataclass
class Chain:
    """One chain: its records, its map after each iteration, its last state."""

    records: list[Record] = field(default_factory=list)
    volumes: list[Array32] = field(default_factory=list)
    state: State | None = None

    @property
    def volume(self) -> Array32:
        """The last map."""
        return self.volumes[-1]


def run_chain(
    name: str,
    patches: Array32,
    model: Model,
    state: State,
    stages: tuple[Stage, ...],
    options: Options,
    rows: NDArray[np.int64],
    seed: list[int],
    kept: Checkpoints,
    *,
    fsc: NDArray[np.float64] | None,
) -> Generator[Progress, None, Chain]:
    """Run one chain from where it stopped; yields after every iteration, when it is kept."""
    chain = _loaded(kept.load(f"chain_{name}"))
    total = sum(stage.iterations for stage in stages)
    yield Progress(name, len(chain.records), total)
    steps = run_stages(patches, model, chain.state or state, stages, options, rows, seed, fsc=fsc)
    for reached, record in steps:
        chain.state = reached
        chain.records.append(record)
        chain.volumes.append(reached.volume)
        kept.save(f"chain_{name}", _saved(chain))
        text = (
            f"iteration {record.iteration}: log-likelihood {record.log_likelihood:+.4f} per patch, empty "
            f"{record.empty:.3f}, norm {record.norm:.4g}"
        )
        yield Progress(name, record.iteration, total, text)
    return chain


def _saved(chain: Chain) -> dict[str, NDArray[Any]]:
    assert chain.state is not None
    state = {f"state_{f.name}": np.asarray(getattr(chain.state, f.name)) for f in fields(State)}
    records = np.array([astuple(record) for record in chain.records], np.float64)
    return state | {"records": records, "volumes": np.array(chain.volumes)}


def _loaded(saved: dict[str, NDArray[Any]] | None) -> Chain:
    if saved is None:
        return Chain()
    values: dict[str, Any] = {f.name: saved[f"state_{f.name}"] for f in fields(State)}
    values |= {name: float(values[name]) for name in ("noise_variance", "empty", "junk")}
    values["iteration"] = int(values["iteration"])
    names = [f.name for f in fields(Record)]
    records = []
    for row in saved["records"]:
        entry = dict(zip(names, row.tolist(), strict=True))
        records.append(Record(**{**entry, "iteration": int(entry["iteration"]), "patches": int(entry["patches"])}))
    return Chain(records, list(saved["volumes"]), State(**values))
