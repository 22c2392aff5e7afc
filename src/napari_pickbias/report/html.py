"""A document as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pickbias.records.atomic import write_text
from napari_pickbias.report.document import Document

if TYPE_CHECKING:
    from napari_pickbias.report.panels import Panel


def html_text(document: Document) -> str:
    """Return ``document`` as a page: styles and pictures inline, no script, nothing fetched from anywhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("napari_pickbias.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(document=document, picture=_picture)


def _picture(panel: Panel) -> str:
    """Draw one panel when the template comes to it, so that one figure at a time is in memory."""
    return "data:image/png;base64," + base64.b64encode(panel.png()).decode("ascii")


def write_html(document: Document, target: Path) -> None:
    """Write ``document`` to ``target``, whole or not at all."""
    write_text(target, html_text(document))
