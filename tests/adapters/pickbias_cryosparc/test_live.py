"""The live door before it meets a server: command line, addresses, and what it does without the client."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.progress import Progress
from pickbias_cryosparc import live
from pickbias_cryosparc.live_command import read_command
from pickbias_cryosparc.live_external import missing_field
from pickbias_cryosparc.live_inputs import choose_output
from pickbias_cryosparc.live_outliers import PARTICLES
from pickbias_cryosparc.live_session import connect, safe

URL = ["--url", "http://127.0.0.1:9"]
PLACE = ["P3", "W1", "J2"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "the following arguments are required: JOB; see pickbias-cryosparc --help"),
        (["dance"], "argument JOB: invalid choice: 'dance'"),
        (["outliers", *URL, "P3", "W1"], "the following arguments are required: SOURCE_JOB; see pickbias-cryosparc"),
        (["outliers", *URL, "X3", "W1", "J2"], "PROJECT X3: is no number of that kind; give one such as P12"),
        (["outliers", *URL, "P3", "W1", "J0"], "SOURCE_JOB J0: is no number of that kind; give one such as J12"),
        (["outliers", *URL, "P3", "W/1", "J2"], "WORKSPACE W/1: is no number of that kind; give one such as W12"),
        (["outliers", *URL, *PLACE, "--resume", "x"], "--resume x: is no number of that kind; give one such as J12"),
        (["outliers", *URL, *PLACE, "--threads", "0"], "--threads 0: is no number of threads; give 1 or more"),
        (["outliers", *URL, *PLACE, "--radius", "-1"], "--radius -1: input should be greater than 0"),
        (["outliers", *URL, *PLACE, "--method", "best"], "--method best: input should be 'calibrated' or 'reference'"),
        (["outliers", *URL, *PLACE, "--rad", "60"], "unrecognized arguments: --rad 60; see pickbias-cryosparc"),
        (["outliers", *PLACE], "--url: is missing; give the address that CryoSPARC has in your browser"),
        (["outliers", "--url", "ftp://a", *PLACE], "--url ftp://a: is no address; give the one that CryoSPARC has"),
        (["outliers", "--url", "http://a:x", *PLACE], "--url http://a:x: is no address; give the one"),
        (["outliers", "--url", "http://a:b@c:1", *PLACE], "--url: holds a user name or password; leave it out"),
    ],
)
def test_each_fault_of_usage_is_one_line(capsys, monkeypatch, words: list[str], line: str) -> None:
    monkeypatch.delenv("CRYOSPARC_BASE_URL", raising=False)
    assert live.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pickbias-cryosparc: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["--help"], ["outliers", "--help"], ["bias", "--help"], ["--version"]])
def test_questions_are_answered(capsys, words: list[str]) -> None:
    assert live.main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith(("usage: pickbias-cryosparc", "pickbias-cryosparc 0"))
    assert err == ""


def test_numbers_in_every_spelling() -> None:
    _, call, parameters, _ = read_command(["outliers", *URL, "3", "w1", "j2", "--radius", "60", "--resume", "7"])
    assert (call.project, call.workspace, call.source, call.resume) == ("P3", "W1", "J2", "J7")
    assert parameters.radius == 60
    assert parameters.remove_when_hopeless is False
    _, _, parameters, _ = read_command(["outliers", *URL, *PLACE, "--remove-when-hopeless"])
    assert parameters.remove_when_hopeless is True


def test_an_input_keeps_its_name_before_a_parameter_of_the_same() -> None:
    _, call, parameters, _ = read_command(["bias", *URL, *PLACE, "--volume", "J3", "--with-volume", "--bait", "auto"])
    assert (call.places["volume"].job, parameters.volume, parameters.bait) == ("J3", True, "auto")
    assert read_command(["bias", *URL, *PLACE, "--volume", "J3"])[2].volume is False


def test_without_the_client(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cryosparc", None)
    monkeypatch.delitem(sys.modules, "cryosparc.tools", raising=False)
    with pytest.raises(InputError, match=r"cryosparc-tools is not installed; pip install 'cryosparc-tools~=5\.0\.0'"):
        connect("http://127.0.0.1:9")


def test_secrets_are_starred(monkeypatch) -> None:
    monkeypatch.setenv("CRYOSPARC_PASSWORD", "pass")
    monkeypatch.setenv("CRYOSPARC_LICENSE_ID", "licence")
    # SHA-256 of "pass", as the client sends it.
    hashed = "d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1"
    assert safe(f"{hashed} pass licence token other", "token") == "*** *** *** *** other"


def test_progress_has_bar_rate_and_remaining_time() -> None:
    assert live.progress_text(Progress("judge", 40, 100), 0, 10) == (
        "judge: [####------] 40%  40 of 100  4/s  15 s left"
    )
    assert live.progress_text(Progress("judge", 100, 100), 0, 10) == "judge: [##########] 100%  100 of 100"
    assert live.progress_text(Progress("judge", 0, 0), 0, 0) == "judge: [----------] 0%  0 of 0"


class Dataset:
    """What the client's datasets have and this needs."""

    def __init__(self, **fields: np.ndarray) -> None:
        self.fields = fields

    def descr(self) -> list[tuple[object, ...]]:
        return [
            (name, v.dtype.str, v.shape[1:]) if v.ndim > 1 else (name, v.dtype.str) for name, v in self.fields.items()
        ]


def test_fields_are_compared_by_name_type_and_shape() -> None:
    data = Dataset(shape=np.zeros((3, 2), "u4"), path=np.zeros(3, object), uid=np.zeros(3, "u8"))
    assert missing_field(data, [("shape", "2u4"), ("path", "O"), ("uid", "<u8")]) == ""
    assert missing_field(data, [("shape", "u4")]) == "has 'shape' as uint32[2], not as u4"
    assert missing_field(data, [("uid", "u4")]) == "has 'uid' as uint64, not as u4"
    assert missing_field(data, [("idx", "u4"), ("uid", "u4")]) == "has no field 'idx'"


def test_an_output_called_particles_goes_before_others() -> None:
    from pickbias_cryosparc.live_external import SourceOutput

    _, call, _, _ = read_command(["outliers", *URL, *PLACE])
    made = {
        name: SourceOutput(name, "particle", frozenset({"blob"}), 5) for name in ("particles_excluded", "particles")
    }
    assert choose_output(made, PARTICLES, call.places["particles"]).name == "particles"
