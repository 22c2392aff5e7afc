"""Pages are filled from top to bottom, nothing is lost between them, and their text can be read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.report.document import Document, Fact, Outcome, Section, Table
from napari_pickbias.report.html import html_text
from napari_pickbias.report.panels import Panel
from napari_pickbias.report.pdf import ROOM, TOP, Item, paginate, write_pdf


def item(height: float, keep: bool = False) -> Item:
    return Item(height, lambda _page, _top: None, keep)


@given(st.lists(st.tuples(st.floats(0.01, ROOM), st.booleans()), max_size=40))
@settings(deadline=None, derandomize=True)
def test_items_keep_their_order_and_stay_on_the_page(sizes: list[tuple[float, bool]]) -> None:
    items = [item(height, keep) for height, keep in sizes]
    pages = paginate(items)
    assert [placed for page in pages for _, placed in page] == items
    for page in pages:
        below = TOP
        for top, placed in page:
            assert top == pytest.approx(below)
            below += placed.height
        assert below <= TOP + ROOM + 1e-6


def test_a_heading_moves_to_the_next_page_with_what_it_heads() -> None:
    items = [item(ROOM - 1), item(0.5, keep=True), item(2.0)]
    assert [len(page) for page in paginate(items)] == [1, 2]
    assert [len(page) for page in paginate([items[0], item(0.5), items[2]])] == [2, 1]


def test_no_items_need_no_page() -> None:
    assert paginate([]) == []


def document(**changes: object) -> Document:
    base: dict[str, object] = {
        "title": "Outlier removal",
        "subtitle": "particles.star",
        "headline": "7 of 9 particles were kept.",
        "program": "pickbias outliers · napari-pickbias 1.2.3",
        "written": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    }
    return Document(**(base | changes))  # type: ignore[arg-type]


def test_a_page_is_a4_and_carries_every_text(tmp_path: Path) -> None:
    panel = Panel("p", "A panel", "What is to be seen.", 2.0, lambda figure, _theme: figure.text(0.5, 0.5, "drawn"))
    target = tmp_path / "report.pdf"
    pages = write_pdf(
        document(
            warnings=("first warning", "second warning"),
            facts=(Fact("Kept", "7 (77.8%)", "whole particles"),),
            reading=("How it is to be read.",),
            sections=(
                Section("A section", ("A paragraph.",), (Table("T", ("a", "b"), (("x", "12,345"),)),), (panel,)),
            ),
            appendix=(Table("Parameters", ("parameter", "value"), (("radius", "71.4"),)),),
        ),
        target,
    )
    reader = pypdf.PdfReader(target)
    assert len(reader.pages) == pages == 1
    box = reader.pages[0].mediabox
    assert (float(box.width), float(box.height)) == (pytest.approx(595.3, abs=1), pytest.approx(841.9, abs=1))
    text = reader.pages[0].extract_text()
    for expected in (
        "Outlier removal", "particles.star", "2026-01-02 03:04 +0000", "Please note", "first warning",
        "second warning", "7 of 9 particles were kept.", "Kept", "7 (77.8%)", "whole particles", "How to read this",
        "How it is to be read.", "A section", "A paragraph.", "12,345", "A panel", "What is to be seen.", "drawn",
        "How this was made", "radius", "71.4", "napari-pickbias 1.2.3", "page 1 of 1",
    ):  # fmt: skip
        assert expected in text, expected
    assert reader.metadata is not None
    assert reader.metadata.title == "Outlier removal: particles.star"


def test_the_outcome_stands_first_in_its_colour(tmp_path: Path) -> None:
    outcome = Outcome(
        "mixed: both", "Because " + "it is so " * 40 + "at the end.", "What to do next: raise T.", "#E69F00"
    )
    made = document(outcome=outcome, warnings=("a warning",), facts=(Fact("Kept", "7"),))
    target = tmp_path / "report.pdf"
    write_pdf(made, target)
    text = " ".join(pypdf.PdfReader(target).pages[0].extract_text().split())
    places = [text.index(part) for part in ("mixed: both", "at the end.", "What to do next", "a warning", "Kept")]
    assert places == sorted(places)
    assert "7 of 9 particles" not in text  # the headline is the box's matter then
    page = html_text(made)
    assert 'class="outcome" style="--mark:#E69F00"' in page
    places = [page.index(part) for part in ("mixed: both", "at the end.", "What to do next", "a warning", "Kept")]
    assert places == sorted(places)
    assert "7 of 9 particles" not in page
    assert 'class="outcome"' not in html_text(document())


def test_long_tables_and_tall_panels_run_over_pages(tmp_path: Path) -> None:
    rows = tuple((f"row {i}", "x" * 90) for i in range(150))
    tall = Panel("p", "Tall", "Text.", 30.0, lambda figure, _theme: figure.text(0.5, 0.5, "tall"))
    target = tmp_path / "report.pdf"
    pages = write_pdf(
        document(sections=(Section("S", panels=(tall, tall)),), appendix=(Table("", ("a", "b"), rows),)), target
    )
    text = [page.extract_text() for page in pypdf.PdfReader(target).pages]
    assert len(text) == pages
    assert sum("tall" in t for t in text) == 2
    assert all(any(re.search(rf"row {i}\b", t) for t in text) for i in range(150))


def test_dollars_and_unknown_letters_are_text(tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    write_pdf(document(subtitle="a$b_$c{ 粒子.star", warnings=("$\\frac{",)), target)
    text = pypdf.PdfReader(target).pages[0].extract_text()
    assert "a$b_$c{ " in text
    assert "$\\frac{" in text


def test_a_missing_folder_is_the_users_matter(tmp_path: Path) -> None:
    target = tmp_path / "gone" / "report.pdf"
    with pytest.raises(InputError) as caught:
        write_pdf(document(), target)
    assert str(caught.value) == f"{target}: cannot be written: its folder does not exist; create it first"
