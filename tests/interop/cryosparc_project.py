"""A small CryoSPARC project behind the stub server, and calls of the live door on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cryosparc.auth import get_default_auth_config_path
from interop.cryosparc_files import ARGUMENTS, LAYOUT, PASSTHROUGH
from interop.cryosparc_stub import EMAIL, TOKEN, Stub

from pickbias_cryosparc import live


def described(root: Path, kind: str, slots: dict[str, str]) -> dict[str, object]:
    """Return an output as a job's document has it."""
    results = []
    for slot, file in slots.items():
        name, _, dtype = slot.partition(":")
        more = {"versions": [0], "metafiles": [file], "num_items": [len(np.load(root / file))]}
        results.append({"name": name, "dtype": dtype or name, **more, "passthrough": PASSTHROUGH in file})
    return {"type": kind, "title": kind.capitalize(), "results": results}


@contextmanager
def serve(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Serve a copy of the project, with a saved login and nothing else in the environment."""
    root = tmp_path / "CS-three"
    shutil.copytree(template, root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    get_default_auth_config_path.cache_clear()
    with Stub(root) as server:
        for uid, outputs in LAYOUT.items():
            if (root / uid).exists():
                server.add_job(uid, {name: described(root, *output) for name, output in outputs.items()})
        save_login(tmp_path, server.url)
        yield server
    get_default_auth_config_path.cache_clear()


def save_login(folder: Path, url: str, token: str = TOKEN) -> None:
    sessions = {url: {EMAIL: {"token": {"access_token": token, "token_type": "bearer"}, "expires": "2999-01-01T00Z"}}}
    path = folder / "config/cryosparc-tools/auth.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sessions).replace("T00Z", "T00:00:00Z"))


def run(stub: Stub, job: str, source: str, *more: str) -> int:
    """Run a job of the live door."""
    return live.main([job, "--url", stub.url, "P3", "W1", source, *more])


def outliers(stub: Stub, *more: str, source: str = "J2") -> int:
    return live.main(["outliers", "--url", stub.url, "P3", "W1", source, *ARGUMENTS, *more])


def fault(stub: Stub, capsys: pytest.CaptureFixture[str], *more: str, source: str = "J2", code: int = 2) -> str:
    """Return the one line of an outlier run that must fail; see :func:`fault_of`."""
    return fault_of(stub, capsys, "outliers", source, *ARGUMENTS, *more, code=code)


def fault_of(stub: Stub, capsys: pytest.CaptureFixture[str], job: str, source: str, *more: str, code: int = 2) -> str:
    """Return the one line of a run that must fail; when there is an external job, it failed with the same line."""
    capsys.readouterr()
    before = set(stub.jobs)
    assert run(stub, job, source, *more) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    line = lines[0].removeprefix("pickbias-cryosparc: ")
    for uid in set(stub.jobs) - before:
        assert stub.jobs[uid]["status"] == "failed"
        assert stub.texts("error")[-1] == line
    return line
