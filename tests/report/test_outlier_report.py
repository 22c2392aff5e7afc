"""The whole report: complete, self-contained, safe against hostile names, in every odd case."""

from __future__ import annotations

import base64
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pypdf
import pytest
from matplotlib.figure import Figure

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.outliers import OutlierResult
from napari_pickbias.report.outlier_text import headline, signal_words
from napari_pickbias.report.outliers import outlier_document, write_outlier_report
from napari_pickbias.report.provenance import input_table

Make = Callable[..., OutlierResult]
Summary = Callable[..., dict[str, Any]]
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects text, pictures and references; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.references: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.stack.append(tag)
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def written(result: OutlierResult, summary: dict[str, Any], folder: Path) -> tuple[Page, str, str]:
    """Write the report; return the page, its source, and the text of the PDF."""
    files = write_outlier_report(result, summary, folder)
    assert files == {"html": folder / "report.html", "pdf": folder / "report.pdf"}
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "report.pdf"]
    source = files["html"].read_text(encoding="utf-8")
    pdf = " ".join(page.extract_text() for page in pypdf.PdfReader(files["pdf"]).pages)
    return Page(source), source, " ".join(pdf.split())


@pytest.fixture
def plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out of the page, to save time: the PDF draws the same panels."""
    monkeypatch.setattr("napari_pickbias.report.panels.Panel.png", lambda _panel: b"\x89PNG")


@pytest.fixture(scope="module")
def report(make_result: Make, make_summary: Summary, tmp_path_factory: pytest.TempPathFactory):
    result = make_result((12000, 345, 67, 8), warnings=["the moon was full"])
    return result, make_summary(result), *written(result, make_summary(result), tmp_path_factory.mktemp("report"))


def test_both_files_give_the_key_figures(report) -> None:
    result, _, page, _, pdf = report
    for text in (
        "12,000 of 12,420 particles were kept (96.6%), 420 were rejected.", "12,000 (96.6%)", "420 (3.4%)",
        "345 (2.8%)", "67 (0.5%)", "8 (0.1%)", "2%", "20.0", "3.4%", "the moon was full",
        "squared signal-to-noise ratio for detecting an average particle", "order of magnitude",
        "it is not the share of junk among the kept particles", "particles.star", "napari-pickbias 9.8.7",
        "123.5 MB", "sha256 ab12", "56.8 s", "4,322 images/s", "988 MB", "matplotlib", "false_keep_rate", "0.02",
    ):  # fmt: skip
        assert text in page.text, text
        assert text in pdf, text
    for name, field in type(result.parameters).model_fields.items():
        assert name in page.text
        assert field.description in page.text
    assert page.text.index("the moon was full") < page.text.index("12,000 of 12,420")


def test_the_page_holds_each_number_of_the_results(report) -> None:
    _, summary, page, _, _ = report

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [n for item in value.values() for n in numbers(item)]
        if isinstance(value, list):
            return [n for item in value for n in numbers(item)]
        return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []

    found = numbers(summary["results"]) + numbers(summary["seconds"])
    assert len(found) >= 11
    for number in found:
        assert json.dumps(number) in page.text


def test_the_page_needs_nothing_from_outside(report) -> None:
    _, _, page, source, _ = report
    assert len(page.references) == 6
    for reference in page.references:
        head, data = reference.split(",", 1)
        assert head == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    words = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe", words)


def test_pictures_are_explained(report) -> None:
    _, _, page, source, _ = report
    assert page.tags.count("figure") == page.tags.count("figcaption") == page.tags.count("img") == 6
    assert all(re.findall(r'<img alt="([^"]+)"', source))
    titles = re.findall(r"<h3>(.*?)</h3>", source)
    assert titles == [
        "Kept and rejected",
        "Averages",
        "Scores and thresholds",
        "Examples",
        "Power spectra",
        "Micrographs",
    ]


@pytest.mark.usefixtures("plain_page")
def test_the_pdf_has_a_page_for_each_share_of_the_figures(
    make_result: Make, make_summary: Summary, tmp_path: Path
) -> None:
    result = make_result(examples=6)
    files = write_outlier_report(result, make_summary(result), tmp_path, "logfile")
    assert files["pdf"] == tmp_path / "logfile.pdf"
    pages = [page.extract_text() for page in pypdf.PdfReader(files["pdf"]).pages]
    first = {
        title: number
        for title in (
            "Kept and rejected",
            "Averages",
            "Scores and thresholds",
            "Examples",
            "Power spectra",
            "Micrographs",
        )
        for number, text in enumerate(pages)
        if re.search(rf"^{title}$", text, re.MULTILINE)
    }
    assert first == {
        "Kept and rejected": 0, "Averages": 1, "Scores and thresholds": 1, "Examples": 2, "Power spectra": 3,
        "Micrographs": 3,
    }  # fmt: skip
    assert len(pages) == 5
    assert "page 5 of 5" in pages[4]


@pytest.mark.usefixtures("plain_page")
def test_the_published_method_says_what_it_cannot_give(
    make_result: Make, make_summary: Summary, tmp_path: Path
) -> None:
    result = make_result(method="reference")
    page, _, pdf = written(result, make_summary(result), tmp_path)
    for text in (
        "the published rule has no stated error rate", "the published rule does not measure it",
        "the published rule gives no probabilities", "were inverted",
    ):  # fmt: skip
        assert text in page.text, text
        assert text in pdf, text
    assert "Scores and thresholds" not in page.text
    assert "What the false-keep rate says" not in page.text
    assert page.tags.count("img") == 5


@pytest.mark.usefixtures("plain_page")
def test_several_groups_have_a_block_each(make_result: Make, make_summary: Summary, tmp_path: Path) -> None:
    result = make_result((100, 40, 30, 20), groups=5, micrographs=0, examples=1)
    page, source, pdf = written(result, make_summary(result), tmp_path)
    for i in range(1, 6):
        assert f"<h2>Group {i}: optics{i}</h2>" in source
        assert f"Group {i}: optics{i}" in pdf
    assert "Particles judged together" in page.text
    assert page.tags.count("img") == 1 + 5 * 4
    assert "lowest of the groups" in page.text


def test_very_many_groups_are_listed_but_not_all_drawn(make_result: Make, make_summary: Summary) -> None:
    result = make_result((100, 40, 30, 20), groups=15)
    document = outlier_document(result, make_summary(result))
    assert len(document.sections) == 1 + 12 + 1
    assert document.sections[0].paragraphs == ("Figures are shown for the 12 largest of 15 groups; the table has all.",)
    assert len(document.sections[0].tables[0].rows) == 15


@pytest.mark.parametrize(
    ("counts", "options", "said"),
    [
        pytest.param((50, 0, 0, 0), {}, "All 50 particles were kept.", id="zero rejected"),
        pytest.param((0, 30, 10, 5), {}, "None of the 45 particles was kept", id="zero kept"),
        pytest.param((1, 0, 0, 0), {}, "The only particle was kept.", id="one particle"),
        pytest.param((0, 1, 0, 0), {"method": "reference"}, "None of the 1 particles was kept", id="one, rejected"),
        pytest.param((20, 9, 0, 0), {"micrographs": 0}, "20 of 29 particles", id="no micrographs"),
        pytest.param((20, 9, 0, 0), {"finite": False}, "none of these images has finite pixels", id="damaged images"),
        pytest.param((20, 9, 0, 0), {"e0": 6.1}, "too weak for a meaningful estimate (e0 below 8)", id="weak signal"),
    ],
)
@pytest.mark.usefixtures("plain_page")
def test_odd_cases_give_a_whole_report(
    make_result: Make,
    make_summary: Summary,
    tmp_path: Path,
    counts: tuple[int, ...],
    options: dict[str, Any],
    said: str,
) -> None:
    result = make_result(counts, examples=1, **options)
    page, _, pdf = written(result, make_summary(result), tmp_path)
    assert said in page.text
    assert said in pdf


@pytest.mark.usefixtures("plain_page")
def test_hostile_names_stay_text(make_result: Make, make_summary: Summary, tmp_path: Path) -> None:
    name = 'a<script>alert("1")<b>&amp;\'$\\frac{.star'
    result = make_result((20, 9, 3, 3), examples=1, warnings=[f"{name}: <b>bold</b>"])
    result.table["micrograph"] = name
    group = replace(result.groups[0], group=replace(result.groups[0].group, name=name))
    page, source, _ = written(replace(result, groups=[group]), make_summary(result, path=f"dir/{name}"), tmp_path)
    assert "<script>alert" not in source
    assert "<b>bold" not in source
    assert page.text.count(name) >= 4  # title, subtitle, warning, input file
    assert set(page.tags) & {"script", "b"} == set()


@pytest.mark.usefixtures("plain_page")
def test_names_of_any_length_and_script(make_result: Make, make_summary: Summary, tmp_path: Path) -> None:
    path = "/data/" + "粒子_very_long_folder/" * 60 + "particles_" + "x" * 200 + ".star"
    result = make_result((20, 9, 3, 3), examples=1)
    page, _, pdf = written(result, make_summary(result, path=path), tmp_path)
    assert path in page.text
    assert "very_long_folder" in pdf


def test_the_report_tells_when_there_are_more_inputs_than_it_lists() -> None:
    table = input_table([{"path": f"{i}.mrcs", "size": 1500, "mtime": 0.0} for i in range(100)])
    assert len(table.rows) == 41
    assert table.rows[0] == ("0.mrcs", "1.5 kB", "changed 1970-01-01 00:00 UTC")
    assert table.rows[-1] == ("and 60 more files, listed in summary.json", "", "")


@pytest.mark.parametrize(
    ("e0", "word"),
    [(1.0, "too weak"), (4.99, "too weak"), (5.0, "weak"), (8.0, "fair"), (15.0, "good"), (900.0, "strong")],
)
def test_words_for_the_signal(e0: float, word: str) -> None:
    assert signal_words(e0).split(":")[0] == word


def test_headline_counts() -> None:
    assert headline({"kept": 1, "noise": 2, "partial": 0, "multiple": 0}) == (
        "1 of 3 particles were kept (33.3%), 2 were rejected."
    )


def test_a_missing_folder_is_the_users_matter(make_result: Make, make_summary: Summary, tmp_path: Path) -> None:
    result = make_result((3, 0, 0, 0), examples=0)
    target = tmp_path / "gone"
    with pytest.raises(InputError) as caught:
        write_outlier_report(result, make_summary(result), target)
    message = f"{target / 'report.html'}: cannot be written: its folder does not exist; create it first"
    assert str(caught.value) == message


@pytest.mark.usefixtures("plain_page")
def test_a_failure_leaves_the_old_report_whole(
    make_result: Make, make_summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = make_result((9, 3, 0, 0), examples=1)
    files = write_outlier_report(result, make_summary(result), tmp_path)
    before = {key: path.read_bytes() for key, path in files.items()}

    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr("matplotlib.backends.backend_pdf.PdfPages.savefig", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        write_outlier_report(result, make_summary(result), tmp_path)
    assert files["pdf"].read_bytes() == before["pdf"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.pdf"]


def test_figures_are_released(make_result: Make, make_summary: Summary, tmp_path: Path) -> None:
    result = make_result((9, 3, 2, 2), examples=1)

    def alive() -> int:
        gc.collect()
        return sum(isinstance(item, Figure) for item in gc.get_objects())

    before = alive()
    write_outlier_report(result, make_summary(result), tmp_path)
    assert alive() == before


def test_nothing_heavy_loads_before_a_report_is_written() -> None:
    code = (
        "import sys, napari_pickbias.report.outliers, napari_pickbias.report.palette\n"
        "print([m for m in ('matplotlib', 'jinja2', 'pandas', 'scipy', 'numba') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_pyplot_is_never_loaded() -> None:
    code = (
        "import sys\n"
        "import napari_pickbias.report.html, napari_pickbias.report.pdf, napari_pickbias.report.panels\n"
        "import napari_pickbias.report.outlier_figures, napari_pickbias.report.outlier_images\n"
        "print([m for m in ('matplotlib.pyplot', 'pylab', 'qtpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
