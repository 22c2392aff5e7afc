"""The report of reconstruction without picking: what it says with and without evidence; a map is never rescaled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from napari_pickbias.jobs.pickfree import PickfreeResult
from napari_pickbias.jobs.pickfree_chains import Chain
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.pickfree import Record
from napari_pickbias.report.palette import LIGHT
from napari_pickbias.report.pickfree import headline, pickfree_document, write_pickfree_report

BOX = 9


def chain(gain: float, norm: float) -> Chain:
    volume = np.zeros((BOX,) * 3, np.float32)
    volume[4, 4, 4] = norm
    records = [Record(i, gain * i / 3, 0.01, 0.5, 0.0, 1.0, 1 + (norm - 1) * i / 3, 1000, 20.0, 0.1) for i in (1, 2, 3)]
    return Chain(records, [volume] * 3)


def result(*, evidence: bool = True, norm: float = 1.5, null: bool = True, picking: bool = True) -> PickfreeResult:
    start = np.zeros((BOX,) * 3, np.float32)
    start[4, 4, 4] = 1
    chains = {name: chain(0.9 if evidence else 0.0004, norm) for name in ("map", "half1", "half2")}
    if null:
        chains["null"] = chain(0.001, 0.1)
    curve = np.array([1.0, 0.99, 0.9, 0.6, 0.05])
    return PickfreeResult(
        PickfreeParameters(box=BOX), 10.0, (0.0, 0.0, 0.0), start, start, chains, 1.0, 1.0, curve, curve,
        curve if null else np.zeros(0), evidence, 60.0 if evidence else -0.1, [0.9, 0.7, 0.62] if picking else [],
        [0.9], [0.001], 1000, 3, [] if evidence else ["no evidence: ..."],
    )  # fmt: skip


def test_the_headline_says_what_the_likelihood_says() -> None:
    assert headline(result()) == (
        "The map explains the micrographs better than noise does: +0.900 log-likelihood per patch, 60 standard errors "
        "above the null; the half maps agree to 23.5 Å."
    )
    assert "above white noise (no null was run)" in headline(result(null=False))
    assert headline(result(evidence=False, norm=0.08)) == (
        "No evidence: the micrographs cannot be told from noise (+0.0004 log-likelihood per patch), and the map "
        "decayed to 8% of its start; nothing of its shape comes from the data. Template picking on such noise keeps "
        "62%."
    )
    # few iterations may leave a map larger than its start
    assert "has 120% of its start's norm" in headline(result(evidence=False, norm=1.2, picking=False))


def test_null_norm_and_picking_stand_beside_the_result() -> None:
    document = pickfree_document(result(), {})
    facts = {fact.name: fact.value for fact in document.facts}
    assert facts["Evidence"] == "yes"
    assert facts["Null"] == "+0.001"
    assert facts["Norm"] == "1.50"
    assert facts["Template picking"] == "0.62"
    assert facts["Resolution"] == "23.5 Å"
    plain = pickfree_document(result(evidence=False, null=False, picking=False), {})
    facts = {fact.name: fact.value for fact in plain.facts}
    assert facts["Evidence"] == "none"
    assert not {"Null", "Template picking", "Resolution"} & set(facts)
    rows = [row[0] for row in document.sections[1].tables[0].rows]
    assert rows == ["micrographs", "surrogates (null)", "half 1", "half 2", "template picking on the surrogates"]


def test_a_map_that_decayed_is_drawn_on_the_scale_of_its_start() -> None:
    """A low norm is never made to look like a map."""
    for found, most in ((result(evidence=False, norm=0.08), 1.0), (result(norm=1.5), 1.5)):
        figure = Figure()
        pickfree_document(found, {}).sections[0].panels[0].draw(figure, LIGHT)
        limits = {image.get_clim() for axes in figure.axes for image in axes.get_images()}
        assert limits == {(0.0, most)}


def test_the_report_is_written_in_every_case(tmp_path: Path) -> None:
    for number, found in enumerate((result(), result(evidence=False, norm=0.1), result(null=False, picking=False))):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = write_pickfree_report(replace(found, warnings=["mind this"]), {}, folder)
        page = files["html"].read_text(encoding="utf-8")
        assert "mind this" in page
        assert page.count("<img") >= 3
        assert files["pdf"].read_bytes().startswith(b"%PDF")
