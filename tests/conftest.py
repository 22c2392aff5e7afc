"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Undo ignored signals, which nohup and background shells hand down: the tests of interruptions send them."""
    for name in ("SIGHUP", "SIGINT", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data for tests: ``PICKBIAS_DATA``, by default ``../shared/data`` beside the checkout."""
    path = Path(os.environ.get("PICKBIAS_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real test data are not here ({path}); set PICKBIAS_DATA to their folder")
    return path
