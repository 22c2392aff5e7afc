"""Print the results of ``cases.py`` as Markdown tables.

python benchmarks/paper_softmodes/tables.py OUT
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def modes_row(name: str, found: dict[str, Any], more: list[str] | None = None) -> list[str]:
    return [
        name,
        " ".join(f"{value:.3f}" for value in found["eigenvalues"]),
        f"{found['known_pose_eigenvalues'][0]:.3f}",
        f"{found['amplitude_fraction'][0]:.1%}",
        f"{found['pose_change_deg'][0]:.2g}°",
        f"{found['likelihood_ratio'][0]:.2f}",
        f"{max(found['residuals']):.1g}",
        *(more or []),
    ]


HEADER = ["case", "eigenvalues", "known poses, softest", "amplitude", "pose change", "re-fitted loss", "residual"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    folder = parser.parse_args().out
    for path in sorted(folder.glob("softmodes_*.json")):
        result = json.loads(path.read_text())
        print(f"\n{path.stem}\n")
        if "points" in result:
            rows = [
                [f"{p['position']:.2f}", f"{p['eigenvalue']:.3f}", f"{p['known_pose_eigenvalue']:.3f}"]
                for p in result["points"]
            ]
            print(table(["position", "poses free", "poses known"], rows))
        elif "family" in result:
            print(table(HEADER, [modes_row("equator", result)]))
            header = list(result["family"][0])
            print(table(header, [[str(row[key]) for key in header] for row in result["family"]]))
        elif all("eigenvalues" in value for value in result.values()):
            more = ["scf", "projection_z_y_x"] if "scf" in next(iter(result.values())) else []
            rows = [modes_row(name, value, [str(value[key]) for key in more]) for name, value in result.items()]
            print(table([*HEADER, *more], rows))
        else:
            for name, value in result.items():
                print(f"* {name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
