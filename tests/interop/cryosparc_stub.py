"""A CryoSPARC 5 server of one project, as far as external jobs go, for the real client on a real socket.

Its OpenAPI document is generated from the client's own ``api.pyi``, so operations, parameters, bodies and answers are
those that the installed client has; the answers are the client's own pydantic models. The rules it keeps are those that
are known of the server: a token on every call, inputs and outputs only while a job is building or running, datasets
only while it runs, and no dataset that lacks a field of its slots.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import cryosparc
import numpy as np
from cryosparc.dataset import CSDAT_FORMAT, Dataset
from cryosparc.models.asset import GridFSAsset
from cryosparc.models.auth import Token
from cryosparc.models.event import CheckpointEvent, ImageEvent, TextEvent
from cryosparc.models.job import Job
from cryosparc.models.job_spec import InputSpec, OutputSpec
from cryosparc.models.project import Project
from cryosparc.models.user import User
from interop.cryosparc_files import FIELDS

EMAIL, PASSWORD, TOKEN = "ali@example.com", "open sesame", "token-0123456789"
DATASET = "application/x-cryosparc-dataset"
NOW = "2026-01-01T00:00:00Z"


def operations() -> dict[str, ast.FunctionDef]:
    """Return the functions of the client's API by name: ``"jobs.find_one"``."""
    tree = ast.parse((Path(cryosparc.__file__).parent / "api.pyi").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    spaces = {"": classes["APIClient"]}
    for node in classes["APIClient"].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            spaces[node.target.id + "."] = classes[ast.unparse(node.annotation)]
    return {
        prefix + function.name: function
        for prefix, space in spaces.items()
        for function in space.body
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("__")
    }


def content(annotation: str, name: str = "") -> dict[str, Any]:
    """Return the OpenAPI content of a body or an answer of this type."""
    if annotation == "Dataset":
        return {DATASET: {"schema": {"title": name}}}
    if annotation == "Stream":
        return {"application/octet-stream": {"schema": {"title": name}}}
    schema: dict[str, Any] = {"title": name} if name else {}
    if re.fullmatch(r"[A-Z]\w+", annotation) and annotation not in {"Any"}:
        schema |= {"$ref": f"#/components/schemas/{annotation}"}
    elif annotation == "str":
        schema |= {"type": "string"}
    return {"application/json": {"schema": schema}}


def openapi() -> dict[str, Any]:
    """Return the document that the client builds its functions from."""
    paths: dict[str, Any] = {}
    error = {"content": {"application/json": {"schema": {}}}}
    for summary, function in operations().items():
        arguments = function.args
        before = [a for a in arguments.posonlyargs if a.arg != "self"]
        body = [a for a in arguments.args if a.arg != "self"]
        parameters = [{"name": a.arg, "in": "path", "required": True} for a in before]
        schema: dict[str, Any] = {"summary": summary, "responses": dict.fromkeys(("401", "404", "422"), error)}
        if summary == "login":
            schema["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": {}}}}
        else:
            for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
                parameters.append({"name": a.arg, "in": "query", "required": default is None})
        if body:
            schema["requestBody"] = {"content": content(ast.unparse(body[0].annotation), body[0].arg)}
        returns = ast.unparse(function.returns) if function.returns else "None"
        streamed = returns in {"Dataset", "Stream"}
        schema["responses"]["201" if streamed else "200"] = {"content": content(returns)}
        schema["parameters"] = parameters
        path = "/" + summary.replace(".", "/") + "".join(f"/{{{a.arg}}}" for a in before)
        method = "get" if not body and re.search(r"(^|\.)(find|get|load|me|health|ls)", summary) else "post"
        paths[path] = {method: schema}
    return {"openapi": "3.1.0", "info": {"title": "stub"}, "paths": paths, "components": {}}


class AnswerError(Exception):
    """An answer other than the operation's own."""

    def __init__(self, status: int, detail: str = "", *, html: bool = False) -> None:
        super().__init__(status, detail)
        self.status, self.detail, self.html = status, detail, html


class HangupError(Exception):
    """The connection breaks without an answer."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that hangs up is no fault of the stub
            super().handle_error(request, client_address)


class Stub:
    """The server; use as a context manager.

    Attributes
    ----------
    hooks : dict
        Operation to a function called before it, which may raise :class:`AnswerError` or :class:`HangupError`.
    requests : list of (operation, target, body)
    events : list of dict
        The event log; ``text``, ``type``, and ``images`` of plots.
    """

    def __init__(self, root: Path, version: str = "v" + cryosparc.__version__) -> None:
        self.root, self.version = root, version
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.assets: list[tuple[str, bytes]] = []
        self.requests: list[tuple[str, str, bytes]] = []
        self.hooks: dict[str, Callable[[], None]] = {}
        self.tile: dict[str, Any] = {}
        self.port = 0
        self._document = json.dumps(openapi()).encode()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Stub:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                stub._handle(self)

            do_POST = do_GET  # noqa: N815

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *fault: object) -> None:
        self.gone()

    def gone(self) -> None:
        """Go away; the port is closed and no connection is served any more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    # -- state --------------------------------------------------------------------------------------------------------

    def add_job(self, uid: str, outputs: dict[str, Any], kind: str = "extract_micrographs_multi") -> None:
        """Add a job that has run; ``outputs`` as in ``spec.outputs``."""
        (self.root / uid).mkdir(exist_ok=True)
        self.jobs[uid] = {
            "uid": uid,
            "uid_num": int(uid[1:]),
            "project_uid": "P3",
            "project_uid_num": 3,
            "job_dir": uid,
            "job_dir_size_last_updated": NOW,
            "status": "completed",
            "status_num": 0,
            "build_errors": [],
            "spec": {
                "type": kind,
                "ui_tile_width": 1,
                "ui_tile_height": 1,
                "resource_spec": {},
                "inputs": {},
                "outputs": outputs,
            },
        }

    def output(self, uid: str, name: str) -> Dataset:
        """Return the rows of an output, its slots joined, as the next job gets them."""
        files: dict[str, list[str]] = {}
        for result in self.jobs[uid]["spec"]["outputs"][name]["results"]:
            files.setdefault(result["metafiles"][-1], []).append(result["name"])
        # The job's own file says which rows there are; what it inherited is joined to it.
        own = [f for f in files if f.startswith(f"{uid}/") and "passthrough" not in f]
        parts = [
            Dataset.load(self.root / f).filter_prefixes(files[f]) for f in [*own, *(f for f in files if f not in own)]
        ]
        return Dataset.innerjoin(*parts) if len(parts) > 1 else parts[0]

    def texts(self, kind: str = "text") -> list[str]:
        """Return the lines of the event log of one type."""
        return [e["text"] for e in self.events if e["type"] == kind]

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = _body(request)
        place = urlsplit(request.path)
        path = place.path.removeprefix("/api/cmd")
        status, kind, data = 200, "application/json", b""
        try:
            if path == "/openapi.json":
                data = self._document
            else:
                data, kind, status = self._operation(request, path, parse_qs(place.query), body)
        except HangupError:
            request.close_connection = True
            return
        except AnswerError as answer:
            status, kind = answer.status, "text/html" if answer.html else "application/json"
            data = answer.detail.encode() if answer.html else json.dumps({"detail": answer.detail}).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        try:
            request.wfile.write(head.encode() + data)  # in one piece: two wait for each other's acknowledgement
        except OSError:
            request.close_connection = True

    def _operation(
        self, request: BaseHTTPRequestHandler, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[bytes, str, int]:
        parts = [unquote(p) for p in path.split("/")[1:]]
        name = parts[0] if parts[0] in {"login", "health"} else ".".join(parts[:2])
        self.requests.append((name, request.path, body))
        if self._server is None:
            raise HangupError
        if name in self.hooks:
            self.hooks[name]()
        if name != "login" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise AnswerError(401, "Could not validate credentials")
        function = getattr(self, "do_" + name.replace(".", "_"), None)
        if function is None:
            raise AnswerError(404, f"the stub has no {name}")
        result = function(parts[1 if "." not in name else 2 :], query, body)
        if isinstance(result, Dataset):
            stream = io.BytesIO()
            result.save(stream, format=CSDAT_FORMAT)
            return stream.getvalue(), DATASET, 201
        if hasattr(result, "model_dump"):
            result = result.model_dump(mode="json", by_alias=True)
        return json.dumps(result).encode(), "application/json", 200

    # -- operations, named as in the client ---------------------------------------------------------------------------

    def do_login(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Token:
        form = {k: v[0] for k, v in parse_qs(body.decode()).items()}
        if (form["username"], form["password"]) != (EMAIL, hashlib.sha256(PASSWORD.encode()).hexdigest()):
            raise AnswerError(401, "Incorrect username or password")
        return Token(access_token=TOKEN, token_type="bearer")

    def do_users_me(self, *request: Any) -> User:
        return User.model_validate({"_id": "1", "name": "ali", "first_name": "Ali", "last_name": "B", "email": EMAIL})

    def do_config_get_version(self, *request: Any) -> str:
        return self.version

    def do_projects_find_one(self, parts: list[str], *request: Any) -> Project:
        if parts != ["P3"]:
            raise AnswerError(404, f"Project {parts[0]} does not exist")
        more = {"uid_num": 3, "owner_user_id": "1", "size_last_updated": NOW}
        return Project.model_validate({"uid": "P3", "title": "Three", "project_dir": str(self.root)} | more)

    def do_projects_get_directory(self, *request: Any) -> str:
        return str(self.root)

    def do_jobs_find_one(self, parts: list[str], *request: Any) -> Job:
        return Job.model_validate(self._job(parts))

    def do_jobs_get_directory(self, parts: list[str], *request: Any) -> str:
        return str(self.root / self._job(parts)["job_dir"])

    def do_jobs_create(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        if parts[1] != "W1":
            raise AnswerError(404, f"Workspace {parts[1]} does not exist")
        uid = f"J{max(int(u[1:]) for u in self.jobs) + 1}"
        self.add_job(uid, {}, query["type"][0])
        self.jobs[uid] |= {"status": "building", "title": query["title"][0], "workspace_uids": [parts[1]]}
        return self.do_jobs_find_one(["P3", uid])

    def do_jobs_add_external_input(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        job = self._job(parts, "building", "running", "waiting")
        spec = InputSpec.model_validate_json(body).model_dump()
        self._refuse_unknown_slots(spec)
        job["spec"]["inputs"][parts[2]] = spec | {"connections": []}
        return Job.model_validate(job)

    def do_jobs_connect(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        job, source, output = self._job(parts), query["source_job_uid"][0], query["source_output_name"][0]
        slots = {slot["name"]: slot for slot in job["spec"]["inputs"][parts[2]]["slots"]}
        given = self.jobs[source]["spec"]["outputs"][output]["results"]
        there = {(r["name"], r["dtype"]) for r in given}
        missing = [n for n, s in slots.items() if s["required"] and (n, s["dtype"]) not in there]
        if missing:
            raise AnswerError(422, f"{output} lacks {missing[0]}")
        results = [
            {"name": r["name"] if r["name"] in slots else None, "dtype": r["dtype"], "result": r["name"]}
            | {"job_uid": source, "output": output, "version": "F"}
            for r in given
        ]
        job["spec"]["inputs"][parts[2]]["connections"].append({"job_uid": source, "output": output, "results": results})
        return Job.model_validate(job)

    def do_jobs_add_external_output(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        job = self._job(parts, "building", "running", "waiting")
        spec = OutputSpec.model_validate_json(body).model_dump()
        self._refuse_unknown_slots(spec)
        job["spec"]["outputs"][parts[2]] = spec | {"results": []}
        return Job.model_validate(job)

    @staticmethod
    def _refuse_unknown_slots(spec: dict[str, Any]) -> None:
        for slot in spec["slots"]:
            if (spec["type"], slot["dtype"]) not in FIELDS:
                raise AnswerError(422, f"Unknown slot dtype {slot['dtype']} of {spec['type']}")

    def do_jobs_get_output_fields(self, parts: list[str], *request: Any) -> list[tuple[str, str]]:
        output = self._job(parts)["spec"]["outputs"][parts[2]]
        fields = [(slot["name"], FIELDS[output["type"], slot["dtype"]]) for slot in output["slots"]]
        return [(f"{name}/{field}", dtype) for name, found in fields for field, dtype in found]

    def do_jobs_mark_running(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        return self._marked(parts, query["status"][0], "building")

    def do_jobs_mark_completed(self, parts: list[str], *request: Any) -> Job:
        return self._marked(parts, "completed", "running", "waiting")

    def do_jobs_mark_failed(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        self.events.append({"text": query["error"][0], "type": "error"})
        return self._marked(parts, "failed", "building", "running", "waiting")

    def do_jobs_load_input(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Dataset:
        connection = self._job(parts)["spec"]["inputs"][parts[2]]["connections"][0]
        return self.output(connection["job_uid"], connection["output"])

    def do_jobs_load_output(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Dataset:
        return self.output(parts[1], parts[2])

    def do_jobs_save_output(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        job, name = self._job(parts, "running", "waiting"), parts[2]
        if not body:
            raise AnswerError(422, "Invalid dataset; no data")
        dataset, output = Dataset.load(io.BytesIO(body)), job["spec"]["outputs"][name]
        there = {entry[0]: np.dtype((entry[1], tuple(entry[2]) if len(entry) > 2 else ())) for entry in dataset.descr()}
        for field, dtype in self.do_jobs_get_output_fields(parts):
            if field not in there or there[field] != np.dtype(dtype):
                raise AnswerError(422, f"Invalid dataset; missing the following required fields: {field}")
        file = f"{parts[1]}/{parts[1]}_{name}.cs"
        dataset.save(self.root / file)
        own = {slot["name"]: slot["dtype"] for slot in output["slots"]}
        results = [(slot, dtype, file, len(dataset), False) for slot, dtype in own.items()]
        for connection in job["spec"]["inputs"].get(output["passthrough"], {}).get("connections", []):
            for r in self.jobs[connection["job_uid"]]["spec"]["outputs"][connection["output"]]["results"]:
                if r["name"] not in own:
                    results.append((r["name"], r["dtype"], r["metafiles"][-1], r["num_items"][-1], True))
        keys = ("name", "dtype", "metafiles", "num_items", "passthrough")
        output["results"] = [
            dict(zip(keys, (s, t, [f], [n], p), strict=True)) | {"versions": [0]} for s, t, f, n, p in results
        ]
        output["num_items"] = len(dataset)
        return Job.model_validate(job)

    def do_jobs_add_event_log(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> TextEvent:
        self.events.append({"text": json.loads(body), "type": query.get("type", ["text"])[0]})
        return self._event(parts, len(self.events) - 1)

    def do_jobs_update_event_log(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> TextEvent:
        self.events[int(parts[2])]["text"] = json.loads(body)
        return self._event(parts, int(parts[2]))

    def do_jobs_add_checkpoint(self, parts: list[str], *request: Any) -> CheckpointEvent:
        return CheckpointEvent.model_validate({"project_uid": "P3", "job_uid": parts[1], "type": "checkpoint"})

    def do_assets_upload(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> GridFSAsset:
        if not body:
            raise AnswerError(422, "empty file")
        self.assets.append((query["filename"][0], body))
        return GridFSAsset(fileid=str(len(self.assets)), filename=query["filename"][0], filetype=query["format"][0])

    def do_jobs_add_image_log(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> ImageEvent:
        images = json.loads(body)
        self.events.append({"text": query["text"][0], "type": "image", "images": images})
        more = {"project_uid": "P3", "job_uid": parts[1], "type": "image", "text": query["text"][0]}
        return ImageEvent.model_validate(more | {"imgfiles": []})

    def do_jobs_set_tile_image(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        self.tile = json.loads(body)
        return self.do_jobs_find_one(parts)

    def do_jobs_set_output_image(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Job:
        self._job(parts)["spec"]["outputs"][parts[2]]["image"] = json.loads(body)["fileid"]
        return self.do_jobs_find_one(parts)

    def _job(self, parts: list[str], *statuses: str) -> dict[str, Any]:
        if parts[0] != "P3" or parts[1] not in self.jobs:
            raise AnswerError(404, f"Job {parts[1]} does not exist in {parts[0]}")
        job = self.jobs[parts[1]]
        if statuses and job["status"] not in statuses:
            raise AnswerError(422, f"Job {parts[1]} is {job['status']}")
        return job

    def _marked(self, parts: list[str], status: str, *before: str) -> Job:
        self._job(parts, *before)["status"] = status
        return self.do_jobs_find_one(parts)

    def _event(self, parts: list[str], index: int) -> TextEvent:
        more = {"_id": str(index), "project_uid": "P3", "job_uid": parts[1]}
        return TextEvent.model_validate(more | self.events[index])


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        pieces.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(pieces)
