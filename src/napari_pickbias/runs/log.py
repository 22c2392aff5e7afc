"""``pickbias.log``: what happened when, with the versions that a report of a fault needs."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_pickbias import __version__
from napari_pickbias.records.atomic import write_fault

LIBRARIES = ("numpy", "scipy", "numba", "pandas", "mrcfile", "starfile", "matplotlib")


def versions() -> dict[str, str]:
    """Return the versions of this program, Python and the libraries that results may depend on."""
    found = {"napari-pickbias": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@contextlib.contextmanager
def run_log(path: Path, tool: str, parameters: Mapping[str, Any]) -> Iterator[logging.Logger]:
    """Give a logger that appends to ``path``; a fault that leaves the block is logged with its traceback.

    Raises
    ------
    InputError
        When the log cannot be written.
    """
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise write_fault(path, error) from error
    # A full disk must end in the one line of the file that could not be written, not in complaints of the logger.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # One logger a run: two runs in one process (napari) must not write into each other's log.
    log = logging.Logger(f"napari_pickbias.{path.parent.name}", logging.INFO)
    log.addHandler(handler)
    try:
        log.info("%s", tool)
        log.info("versions %s", versions())
        log.info("parameters %s", dict(parameters))
        yield log
        log.info("done")
    except Exception:
        log.exception("stopped by a fault")
        raise
    finally:
        handler.close()
