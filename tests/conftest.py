"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data for tests: ``PICKBIAS_DATA``, by default ``../shared/data`` beside the checkout."""
    path = Path(os.environ.get("PICKBIAS_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real test data are not here ({path}); set PICKBIAS_DATA to their folder")
    return path
