"""The connection to CryoSPARC: login, versions, and every answer of cryosparc-tools (5.x and 4.x) as one line.

The client's traps that are met here (5.0.3, 4.7.1): host and port of the environment clash with a URL; a wrong version
only warns; error answers are shown with whole URLs, or not at all; an answer whose status it does not know is a fault.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from napari_pickbias.errors import InputError

_NOBODY_THERE = (502, 503, 504)
"""What a proxy answers when the server behind it does not."""
_INSTALL = (
    "cryosparc-tools is not installed; pip install 'cryosparc-tools~=5.0.0' for a 5.0 server ('~=4.7.0' for 4.7 …)"
)


class ServerGoneError(InputError):
    """CryoSPARC does not answer any more."""


class RefusedError(InputError):
    """CryoSPARC answered no."""


@dataclass(frozen=True)
class Session:
    """A connection.

    Attributes
    ----------
    client : CryoSPARC
        Of cryosparc-tools.
    url : str
    major : int
        Major version of cryosparc-tools.
    mismatch : str
        What to install where client and server are of different releases; empty where they fit.
    """

    client: Any
    url: str
    major: int
    mismatch: str = ""

    def call(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the client; whatever it raises becomes one line that says ``what`` was tried.

        Raises
        ------
        ServerGoneError
            When there is no answer.
        RefusedError
            When the answer is an error.
        """
        try:
            return function(*arguments, **options)
        except Exception as fault:
            hint = f" ({self.mismatch})" if self.mismatch else ""
            if _is_transport(fault) or getattr(fault, "code", 0) in _NOBODY_THERE:
                raise ServerGoneError(
                    f"{self.url}: CryoSPARC does not answer ({self.safe(first_line(fault))}), so it was not possible "
                    f"to {what}; see that the server runs{hint}"
                ) from fault
            if not _is_answer(fault):
                raise
            raise RefusedError(f"CryoSPARC refused to {what}: {self.safe(answer(fault))}{hint}") from fault

    def do(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Call the client for what it does, not for what it returns; raises as :meth:`call` does.

        The client refuses answers with a status that it does not know, such as 202; what was asked is done then.
        """
        try:
            self.call(what, function, *arguments, **options)
        except RefusedError as fault:
            if not 200 <= getattr(fault.__cause__, "code", 0) < 300:
                raise

    def safe(self, text: str) -> str:
        """Return a text without password, licence and token."""
        token = ""
        with contextlib.suppress(Exception):
            token = str(self.client.api._client.headers["Authorization"]).split()[-1]
        return safe(text, token)


def safe(text: str, *secrets: str) -> str:
    """Return a text without the secrets given and those of the environment."""
    password = os.environ.get("CRYOSPARC_PASSWORD", "")
    hashed = hashlib.sha256(password.encode()).hexdigest() if password else ""
    for secret in (password, hashed, os.environ.get("CRYOSPARC_LICENSE_ID", ""), *secrets):
        if secret:
            text = text.replace(secret, "***")
    return text


def first_line(fault: BaseException) -> str:
    """Return the first line of a fault's text, or its type's name."""
    lines = [line.strip() for line in _text(_root(fault)).splitlines() if line.strip()]
    return lines[0].rstrip(":. ") if lines else type(fault).__name__


def answer(fault: BaseException) -> str:
    """Return what the server says in an error answer, or what the client says of it."""
    fault = _root(fault)
    data = getattr(fault, "data", None)
    detail = data.get("detail", data.get("message")) if isinstance(data, dict) else data
    if not detail and type(fault).__name__ == "CommandError":
        detail = " ".join(_text(fault).splitlines()[1:]) or first_line(fault)
    if detail:
        return " ".join(str(detail).split()).rstrip(". ")[:400]
    if type(fault).__name__ == "ResponseNotRead":  # where the client expects a dataset, it cannot read a refusal
        return "it answered with an error whose text cryosparc-tools does not read"
    code = getattr(fault, "code", 0)
    return f"it answered with HTTP status {code}" if code else first_line(fault)


def _root(fault: BaseException) -> BaseException:
    """Return what 4.x wrapped a fault of the connection around."""
    while type(fault).__name__ == "CommandError" and type(fault.__cause__).__name__ == "CommandError":
        fault = fault.__cause__  # type: ignore[assignment]
    return fault


def _text(fault: BaseException) -> str:
    """Return a fault's text without address and without the arguments of the call: 4.x shows the password so."""
    text = re.sub(r"^\*\*\* \([^)]*, code -?\w+\) ", "", str(fault))
    return re.sub(r" with params .*", ":", text)


def _is_answer(fault: BaseException) -> bool:
    return hasattr(fault, "code") or _is_httpx(fault) or type(fault).__name__ == "InvalidSlotsError"


def _is_transport(fault: BaseException) -> bool:
    if _is_httpx(fault):
        return "TransportError" in {kind.__name__ for kind in type(fault).__mro__}
    if type(fault).__name__ == "CommandError":
        return re.match(r"URL Error|Timeout Error", _text(_root(fault))) is not None
    return isinstance(fault, ConnectionError | TimeoutError)


def _is_httpx(fault: BaseException) -> bool:
    return type(fault).__module__.split(".")[0] == "httpx"


def connect(url: str | None) -> Session:
    """Log in with what the client finds: its saved login, else its own environment variables.

    Raises
    ------
    InputError
        When there is no client, no login, no server, or the URL is unsound.
    """
    url = _sound(url)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from cryosparc import __version__ as version
            from cryosparc.tools import CryoSPARC
    except ImportError:
        raise InputError(_INSTALL) from None
    major = int(version.split(".")[0])
    place = urlsplit(url)
    # Host and port of the environment would clash with the URL, so they are taken out by name.
    options: dict[str, Any] = {"base_url": url, "host": None, "base_port": None}
    if major < 5:
        options = {"host": place.hostname, "base_port": place.port or 39000}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client = CryoSPARC(**options)
    except Exception as fault:
        raise InputError(f"--url {url}: {_why_not_connected(fault, url, version)}") from None
    return Session(client, url, major, _mismatch([str(w.message) for w in caught], version))


def _sound(url: str | None) -> str:
    if not url:
        raise InputError("--url: is missing; give the address that CryoSPARC has in your browser, http://host:39000")
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        place = urlsplit(url)
        sound = place.scheme in ("http", "https") and bool(place.hostname) and (place.port or 1) > 0
    except ValueError:
        sound, place = False, urlsplit("")
    if place.password or place.username:
        raise InputError("--url: holds a user name or password; leave it out and log in with: cryosparc.tools login")
    if not sound:
        raise InputError(f"--url {url}: is no address; give the one that CryoSPARC has in your browser")
    return url


def _why_not_connected(fault: Exception, url: str, version: str) -> str:
    login = f"log in once with: python -m cryosparc.tools login --url {url}"
    text, cause = safe(str(fault)), fault.__cause__ or fault
    if isinstance(fault, AssertionError):  # 4.x asks for its environment variables so
        what = first_line(fault).split(" license ID")[0] + (" license ID" if "license" in text else "")
        return f"{what}; set CRYOSPARC_LICENSE_ID, CRYOSPARC_EMAIL and CRYOSPARC_PASSWORD"
    if "authentication not provided or expired" in text or getattr(cause, "code", 0) in (401, 403):
        return f"the login is missing, wrong or has expired; {login}"
    if _is_transport(cause):
        return f"CryoSPARC does not answer there ({safe(first_line(cause))}); check the address and that it runs"
    release = ".".join(version.split(".")[:2])
    return (
        f"cannot connect with cryosparc-tools {version} ({safe(answer(cause))}); check the login, and that this is "
        f"CryoSPARC {release}: else install the release of the server: pip install 'cryosparc-tools~=<its version>.0'"
    )


def _mismatch(texts: list[str], version: str) -> str:
    for text in texts:
        server = re.search(r"with version v?(\d+\.\d+)[\w.+-]* may not be compatible", text)
        if server:
            return (
                f"CryoSPARC is {server[1]} and cryosparc-tools is {version}: pip install "
                f"'cryosparc-tools~={server[1]}.0'"
            )
    return ""
