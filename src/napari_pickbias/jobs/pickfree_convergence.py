"""The pieces that a reconstruction keeps of its chains, read back while it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.pickfree.chain import Record


def chain_table(records: NDArray[np.float64]) -> pd.DataFrame:
    """Return a chain's records ``(iterations, columns)`` as a table with the names of :class:`Record`."""
    return pd.DataFrame(records, columns=[field.name for field in fields(Record)])


def halves_agreement(volumes: Mapping[str, NDArray[Any]], first: str, second: str) -> list[float]:
    """Return the mean over shells of the halves' correlation, of each iteration that both have finished."""
    if first not in volumes or second not in volumes:
        return []
    pairs = zip(volumes[first], volumes[second], strict=False)
    return [float(np.nanmean(fourier_correlation(one, other, 3)[1:])) for one, other in pairs]
