"""Output nodes: how a job tells RELION's pipeline what it made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from napari_pickbias.records.atomic import write_text
from pickbias_relion.project import OUTPUT_NODES, Release, project_path


class NodeType(NamedTuple):
    """One kind of file by the names of the three releases."""

    number: int
    label_4: str
    label_5: str


NODE_TYPES = {
    "movies": NodeType(0, "MicrographMoviesData.star.relion", "MicrographMovieGroupMetadata.star.relion"),
    "micrographs": NodeType(1, "MicrographsData.star.relion", "MicrographGroupMetadata.star.relion"),
    "coordinates": NodeType(2, "MicrographsCoords.star.relion", "MicrographCoordsGroup.star.relion"),
    "particles": NodeType(3, "ParticlesData.star.relion", "ParticleGroupMetadata.star.relion"),
    "images": NodeType(5, "ImagesData.star.relion", "Image2DGroupMetadata.star.relion"),
    "map": NodeType(6, "DensityMap.mrc", "DensityMap.mrc"),
    "mask": NodeType(7, "Mask3D.mrc", "Mask3D.mrc"),
    "log": NodeType(13, "LogFile.pdf.relion", "LogFile.pdf.relion"),
    # 3.1 has no tomograms; its pipeline takes any number
    "optimisation_set": NodeType(
        50, "ProcessData.star.relion.tomo.optimisation_set", "TomoOptimisationSet.star.relion"
    ),
}
"""Source: RELION 3.1.3, 4.0.1 and 5.0.1, src/pipeline_jobs.h."""


class Node(NamedTuple):
    """A file that the job made, and its kind: a key of :data:`NODE_TYPES`."""

    path: str | Path
    kind: str


def output_nodes_text(nodes: Sequence[Node], release: Release | None) -> str:
    """Return the text of ``RELION_OUTPUT_NODES.star``.

    Number and label both stand in it: 3.1 knows the number alone, 4.0 and 5.0 the label alone. The label's
    vocabulary is that of ``release``, and that of 5.0 where the release is not known.
    """
    lines = ["", "data_output_nodes", "", "loop_"]
    lines += ["_rlnPipeLineNodeName #1", "_rlnPipeLineNodeType #2", "_rlnPipeLineNodeTypeLabel #3"]
    for node in nodes:
        kind = NODE_TYPES[node.kind]
        name = project_path(node.path)
        quoted = f'"{name}"' if len(name.split()) > 1 else name
        lines.append(f"{quoted} {kind.number} {kind.label_4 if release == '4.0' else kind.label_5}")
    return "\n".join(lines) + "\n"


def write_output_nodes(job_directory: Path, nodes: Sequence[Node], release: Release | None) -> None:
    """Write ``RELION_OUTPUT_NODES.star`` whole or not at all; no nodes, no file.

    Raises
    ------
    InputError
        When it cannot be written.
    """
    if nodes:
        write_text(job_directory / OUTPUT_NODES, output_nodes_text(nodes, release))
