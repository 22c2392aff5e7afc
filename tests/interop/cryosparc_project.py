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
from interop.cryosparc_stub import EMAIL, TOKEN, Stub
from support import blob_stack, write_stack

from pickbias_cryosparc import live

ARGUMENTS = ["--radius", "36", "--working-box", "21", "--threads", "1", "--fit-images", "200"]


def table(columns: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.empty(len(columns["uid"]), [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def result(name: str, file: str, count: int, passthrough: bool = False) -> dict[str, object]:
    more = {"versions": [0], "metafiles": [file], "num_items": [count], "passthrough": passthrough}
    return {"name": name, "dtype": name, **more}


def make_project(root: Path) -> Path:
    """Write the files of one extraction job, J2: the main file has images, the passthrough file locations."""
    images = blob_stack(150, 25)[0]
    n, stack = len(images), "J2/extract/000000000000000000007_é_particles.mrc"
    write_stack(root / stack, images)
    uid = np.random.default_rng(1).integers(1 << 63, 1 << 64, n, np.uint64)
    f4 = np.float32
    main = table(
        {
            "uid": uid,
            "blob/path": np.array([stack.encode()] * n),
            "blob/idx": np.arange(n, dtype="u4"),
            "blob/shape": np.full((n, 2), images.shape[1], "u4"),
            "blob/psize_A": np.full(n, 4, f4),
            "blob/sign": np.ones(n, f4),
            "blob/import_sig": np.arange(n, dtype="u8"),
        }
    )
    passthrough = table(
        {
            "uid": uid,
            "location/micrograph_uid": np.full(n, 7, "u8"),
            "location/exp_group_id": np.full(n, 3, "u4"),
            "location/micrograph_path": np.array(["J1/mics/é.mrc".encode()] * n),
            "location/micrograph_shape": np.tile(np.array([4000, 4000], "u4"), (n, 1)),
            "location/center_x_frac": np.linspace(0.1, 0.9, n).astype(f4),
            "location/center_y_frac": np.linspace(0.9, 0.1, n).astype(f4),
        }
    )[::-1]
    for name, rows in (("extracted_particles.cs", main), ("J2_passthrough_particles.cs", passthrough)):
        with (root / "J2" / name).open("wb") as stream:
            np.save(stream, rows)
    return root


@contextmanager
def serve(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Serve a copy of the project, with a saved login and nothing else in the environment."""
    root = tmp_path / "CS-three"
    shutil.copytree(template, root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    get_default_auth_config_path.cache_clear()
    with Stub(root) as server:
        n = len(np.load(root / "J2/extracted_particles.cs"))
        file = "J2/extracted_particles.cs"
        results = [result("blob", file, n), result("location", "J2/J2_passthrough_particles.cs", n, True)]
        server.add_job(
            "J2",
            {
                "particles": {"type": "particle", "title": "Extracted", "results": results},
                "micrographs": {"type": "exposure", "title": "Micrographs", "results": []},
            },
        )
        save_login(tmp_path, server.url)
        yield server
    get_default_auth_config_path.cache_clear()


def save_login(folder: Path, url: str, token: str = TOKEN) -> None:
    sessions = {url: {EMAIL: {"token": {"access_token": token, "token_type": "bearer"}, "expires": "2999-01-01T00Z"}}}
    path = folder / "config/cryosparc-tools/auth.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sessions).replace("T00Z", "T00:00:00Z"))


def outliers(stub: Stub, *more: str, source: str = "J2") -> int:
    return live.main(["outliers", "--url", stub.url, "P3", "W1", source, *ARGUMENTS, *more])


def fault(stub: Stub, capsys: pytest.CaptureFixture[str], *more: str, source: str = "J2", code: int = 2) -> str:
    """Return the one line of a run that must fail; when there is an external job, it failed with the same line."""
    capsys.readouterr()
    before = set(stub.jobs)
    assert outliers(stub, *more, source=source) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    line = lines[0].removeprefix("pickbias-cryosparc: ")
    for uid in set(stub.jobs) - before:
        assert stub.jobs[uid]["status"] == "failed"
        assert stub.texts("error")[-1] == line
    return line
