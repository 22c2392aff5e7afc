"""A CryoSPARC 4.7 server of one project, as far as external jobs go: JSON-RPC on two ports for the 4.7 client."""

from __future__ import annotations

import io
import json
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from cryosparc.dataset import CSDAT_FORMAT, Dataset
from interop.cryosparc_files import FIELDS

LICENSE, EMAIL, PASSWORD = "01234567-89ab-cdef-0123-456789abcdef", "ali@example.com", "it's \\ open"


class RpcError(Exception):
    """An error answer."""


class Stub4:
    """The server; use as a context manager. It listens on ``base_port`` + 2, + 3 and + 5 as the real one does."""

    def __init__(self, root: Path, version: str = "v4.7.1") -> None:
        self.root, self.version = root, version
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.assets: list[tuple[str, bytes]] = []
        self.base_port = 0
        self._servers: list[ThreadingHTTPServer] = []

    def __enter__(self) -> Stub4:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments: Any) -> None:
                pass

            def do_POST(self) -> None:
                stub._handle(self)

        for _ in range(50):
            self.base_port = random.randrange(20000, 60000)
            try:
                for offset in (2, 3, 5):
                    self._servers.append(ThreadingHTTPServer(("127.0.0.1", self.base_port + offset), Handler))
                break
            except OSError:  # a port is taken
                self.__exit__()
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *fault: object) -> None:
        while self._servers:
            server = self._servers.pop()
            if fault:
                server.shutdown()
            server.server_close()

    def add_job(self, uid: str, groups: list[dict[str, Any]], results: list[dict[str, Any]], kind: str) -> None:
        (self.root / uid).mkdir(exist_ok=True)
        more = {"input_slot_groups": [], "output_result_groups": groups, "output_results": results}
        self.jobs[uid] = {"uid": uid, "project_uid": "P3", "job_type": kind, "status": "building", "type": kind, **more}

    def rows(self, uid: str, group: str) -> Dataset:
        """Return the rows of an output with all its slots."""
        files: dict[str, list[str]] = {}
        for r in self.jobs[uid]["output_results"]:
            if r["group_name"] == group:
                files.setdefault(r["metafiles"][-1], []).append(r["name"])
        parts = [Dataset.load(str(self.root / f)).filter_prefixes(files[f]) for f in files]
        return Dataset.innerjoin(*parts) if len(parts) > 1 else parts[0]

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = _body(request)
        place = urlsplit(request.path)
        status, kind = 200, "application/json"
        if request.headers.get("License-ID") != LICENSE:
            status, data = 401, b'{"message": "wrong licence"}'
        elif place.path == "/api":
            call = json.loads(body)
            try:
                answer = {"result": self._rpc(call["method"], call["params"])}
            except RpcError as error:
                answer = {"error": {"name": "ServerError", "message": str(error), "code": 400, "data": None}}
            data = json.dumps(answer).encode()
        elif place.path == "/load_job_input":
            asked = json.loads(body)
            group = next(g for g in self._doc(asked)["input_slot_groups"] if g["name"] == asked["input_name"])
            stream = io.BytesIO()
            self.rows(*group["connections"][0]).save(stream, format=CSDAT_FORMAT)
            data, kind = stream.getvalue(), "application/x-cryosparc-dataset"
        elif match := re.fullmatch(r"/external/projects/P3/jobs/(\w+)/outputs/(\w+)/dataset", place.path):
            status, data = self._save(match[1], match[2], body)
        else:
            query = parse_qs(place.query)
            self.assets.append((query["filename"][0], body))
            data = json.dumps({"fileid": str(len(self.assets)), "filename": query["filename"][0]}).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        request.wfile.write(head.encode() + data)

    def _doc(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["project_uid"] != "P3" or asked["job_uid"] not in self.jobs:
            raise RpcError(f"Could not find {asked['project_uid']} {asked['job_uid']}")
        return self.jobs[asked["job_uid"]]

    def _rpc(self, method: str, params: Any) -> Any:
        if method == "system.describe":
            names = [n.removeprefix("rpc_") for n in dir(self) if n.startswith("rpc_")]
            return {"procs": [{"name": name} for name in names]}
        function = getattr(self, "rpc_" + method)
        return function(**params) if isinstance(params, dict) else function(*params)

    def rpc_get_id_by_email_password(self, email: str, password: str) -> str:
        if (email, password) != (EMAIL, PASSWORD):
            raise RpcError("Incorrect password")
        return "1"

    def rpc_get_running_version(self) -> str:
        return self.version

    def rpc_get_project(self, project_uid: str) -> dict[str, Any]:
        if project_uid != "P3":
            raise RpcError(f"Project {project_uid} does not exist")
        return {"uid": "P3"}

    def rpc_get_project_dir_abs(self, project_uid: str) -> str:
        return str(self.root)

    def rpc_get_job(self, project_uid: str, job_uid: str) -> dict[str, Any]:
        return self._doc({"project_uid": project_uid, "job_uid": job_uid})

    def rpc_get_job_dir_abs(self, project_uid: str, job_uid: str) -> str:
        return str(self.root / job_uid)

    def rpc_create_external_job(self, title: str, **more: Any) -> str:
        uid = f"J{max(int(u[1:]) for u in self.jobs) + 1}"
        self.add_job(uid, [], [], "snowflake")
        return uid

    def rpc_add_external_job_input(self, name: str, slots: list[Any], **more: Any) -> str:
        self._doc(more)["input_slot_groups"].append({"name": name, "slots": slots, "connections": []})
        return name

    def rpc_connect_external_job(
        self, source_job_uid: str, source_output: str, target_job_uid: str, target_input: str, **more: Any
    ) -> bool:
        groups = self.jobs[target_job_uid]["input_slot_groups"]
        next(g for g in groups if g["name"] == target_input)["connections"].append((source_job_uid, source_output))
        return True

    def rpc_add_external_job_output(
        self, name: str, slots: list[Any], passthrough: str | None = None, **more: Any
    ) -> str:
        doc, kind = self._doc(more), more["type"]
        doc["output_result_groups"].append({"name": name, "type": kind, "passthrough": passthrough})
        for slot in slots:
            prefix, dtype = (slot, slot) if isinstance(slot, str) else (slot["prefix"], slot["dtype"])
            own = {"group_name": name, "name": prefix, "type": f"{kind}.{dtype}", "passthrough": False}
            doc["output_results"].append(own | {"min_fields": FIELDS[kind, dtype], "metafiles": [], "num_items": []})
        return name

    def rpc_run_external_job(self, project_uid: str, job_uid: str, status: str) -> None:
        self.jobs[job_uid]["status"] = status

    def rpc_set_job_status(self, project_uid: str, job_uid: str, status: str) -> None:
        self.jobs[job_uid]["status"] = status

    def rpc_job_send_streamlog(self, message: str, error: bool = False, imgfiles: Any = (), **more: Any) -> str:
        self._doc(more)
        self.events.append({"text": message, "type": "image" if imgfiles else "error" if error else "text"})
        return str(len(self.events))

    def _save(self, uid: str, name: str, body: bytes) -> tuple[int, bytes]:
        doc = self.jobs[uid]
        dataset = Dataset.load(io.BytesIO(body))
        there = {entry[0]: np.dtype((entry[1], tuple(entry[2]) if len(entry) > 2 else ())) for entry in dataset.descr()}
        own = [r for r in doc["output_results"] if r["group_name"] == name and not r["passthrough"]]
        for r in own:
            for f, t in r["min_fields"]:
                if there.get(f"{r['name']}/{f}") != np.dtype(t):
                    text = f"missing the following required fields: {r['name']}/{f}"
                    return 422, json.dumps({"message": text}).encode()
        file = f"{uid}/{uid}_{name}.cs"
        dataset.save(str(self.root / file))
        for r in own:
            r |= {"metafiles": [file], "num_items": [len(dataset)]}
        inherits = next(g["passthrough"] for g in doc["output_result_groups"] if g["name"] == name)
        for group in doc["input_slot_groups"]:
            if group["name"] == inherits:
                source, output = group["connections"][0]
                for r in self.jobs[source]["output_results"]:
                    if r["group_name"] == output and r["name"] not in {o["name"] for o in own}:
                        doc["output_results"].append({**r, "group_name": name, "passthrough": True})
        return 200, b"{}"


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        pieces.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(pieces)
