"""Tables of the validation: what the verdict said against what was true."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from napari_pickbias.bias import verdict as rule
from napari_pickbias.bias.frc import Null
from napari_pickbias.bias.verdict import Rate, judge, standing_out

Row = dict[str, Any]
VERDICTS = ("template", "mixed", "data", "undecided")


def wilson(hits: int, total: int) -> str:
    """Return a share and its 95 % interval in per cent."""
    if not total:
        return "–"
    z, share = 1.959964, hits / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return f"{100 * share:.0f} % ({100 * max(middle - half, 0):.0f} to {100 * min(middle + half, 1):.0f})"


def truth_of(false: float) -> str:
    """Return what picks are of which this share is false."""
    return "template" if false >= rule.NOISE_FDR else "data" if false <= rule.CLEAN_FDR else "mixed"


def word_of(row: Row, level: Row) -> str:
    """Judge stored figures by the present rule."""
    return judge(
        level["picks"], Rate(*level["rate"]), Null(*level["beyond"]), Null(*level["inside"]),
        Null(*level["agreement"]), views=level["views"], trusted_share=row["trusted_share"],
        stands_out=standing_out(
            (other["threshold"], other["picks"], Rate(*other["rate"]))
            for other in row["levels"] if other["threshold"] > level["threshold"]
        ),
    ).name  # fmt: skip


def confusion(title: str, rows: Iterable[tuple[Row, Row]], kind: Callable[[Row, Row], str], order: list[str]) -> None:
    """Print what each kind of data set was called."""
    table = {name: dict.fromkeys(VERDICTS, 0) for name in order}
    for row, level in rows:
        table[kind(row, level)][word_of(row, level)] += 1
    print(f"\n{title}\n\n| truth | sets | {' | '.join(VERDICTS)} |\n|---|---|{'---|' * len(VERDICTS)}")
    for name, counts in table.items():
        total = sum(counts.values())
        if total:
            cells = " | ".join(f"{counts[v]}: {wilson(counts[v], total)}" if counts[v] else "0" for v in VERDICTS)
            print(f"| {name} | {total} | {cells} |")


def show(rows: list[Row]) -> None:
    """Print all tables."""
    enough = [(row, row["levels"][0]) for row in rows if row["levels"][0]["picks"] >= rule.FEWEST_PICKS]
    print(f"{len(rows)} data sets, {len(rows) - len(enough)} with fewer than {rule.FEWEST_PICKS} picks; CPU "
          f"{sum(sum(r['seconds']) for r in rows) / 60:.0f} min")  # fmt: skip
    noise = [(row, level) for row, level in enough if not row["score"]]
    real = [(row, level) for row, level in enough if row["score"]]
    order = ["template", "mixed", "data"]
    confusion("All", enough, lambda _, level: truth_of(level["false"]), order)
    confusion("Pure noise, by template", noise, lambda row, _: row["template"], ["right", "other", "scrambled", "disc"])
    for name, chosen in (
        ("right", ["right"]), ("other molecule", ["other"]), ("scrambled", ["scrambled"]), ("disc", ["disc"]),
    ):  # fmt: skip
        part = [(r, level) for r, level in real if r["template"] in chosen]
        confusion(f"Particles, template: {name}", part, lambda _, level: truth_of(level["false"]), order)
    every = [(row, level) for row in rows if not row["score"] for level in row["levels"]]
    bad = sum(word_of(row, level) in ("data", "mixed") for row, level in every)
    sets = sum(
        any(word_of(row, level) in ("data", "mixed") for level in row["levels"]) for row in rows if not row["score"]
    )
    total = sum(not row["score"] for row in rows)
    bound = 100 * (1 - 0.05 ** (1 / max(total, 1)))
    print(
        f"\nNoise called data or mixed: {sets} of {total} sets at any of four thresholds, {wilson(sets, total)}; "
        f"one-sided 95 % bound {bound:.1f} % if none; {bad} of {len(every)} verdicts"
    )
    words(real)
    shares(real)
    sweep(enough)
    cuts(enough)


def words(real: list[tuple[Row, Row]]) -> None:
    """Print the third figure by template, where there is evidence."""
    print("\nAgreement with the unfiltered template, where the verdict is data or mixed\n")
    print("| template | CTF | sets | agrees well | partly | not detectably |\n|---|---|---|---|---|---|")
    for template in ("right", "other", "scrambled", "disc"):
        for optics in ("none", "known", "unknown"):
            found = [
                level["relative"] for row, level in real
                if row["template"] == template and row["ctf"] == optics and word_of(row, level) in ("data", "mixed")
            ]  # fmt: skip
            values = np.array(found)
            if len(values):
                well, partly = (values >= rule.AGREES).sum(), ((values >= rule.PARTLY) & (values < rule.AGREES)).sum()
                print(f"| {template} | {optics} | {len(values)} | {well} | {partly} | {len(values) - well - partly} |")


def shares(real: list[tuple[Row, Row]]) -> None:
    """Print the estimated share of false picks beside the true one."""
    print("\nShare of false picks\n")
    print("| template | true | sets | estimated, median (quartiles) | interval holds the truth |")
    print("|---|---|---|---|---|")
    for template in ("right", "other", "scrambled", "disc"):
        for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
            part = [
                level for row, level in real
                if row["template"] == template and low <= level["false"] < high and np.isfinite(level["rate"][0])
            ]  # fmt: skip
            if part:
                q = np.quantile([level["rate"][0] for level in part], [0.25, 0.5, 0.75])
                holds = sum(level["rate"][1] <= level["false"] <= level["rate"][2] for level in part)
                spread = f"{q[1]:.2f} ({q[0]:.2f} to {q[2]:.2f})"
                print(f"| {template} | {low:g} to {min(high, 1):g} | {len(part)} | {spread} | {holds} |")


def sweep(enough: list[tuple[Row, Row]]) -> None:
    """Print, for cuts of evidence, the share of noise that passes and of particles that do."""
    print(
        "\nEvidence: sets that pass each cut\n\n| deviations | least E | noise | particles, true share of false ≤ .5 |"
    )
    print("|---|---|---|---|")
    noise = [level["beyond"] for row, level in enough if not row["score"]]
    real = [level["beyond"] for row, level in enough if row["score"] and level["false"] <= 0.5]
    for z in (2.0, 2.5, 3.0, 4.0, 5.0):
        for least in (0.0, 0.1, 0.15):
            passed = [sum(_passes(each, z, least) for each in group) for group in (noise, real)]
            print(f"| {z:g} | {least:g} | {wilson(passed[0], len(noise))} | {wilson(passed[1], len(real))} |")
    extremes = sorted((Null(*each).z for each in noise if np.isfinite(each[0])), reverse=True)[:5]
    print("\nlargest deviations on noise:", [round(z, 1) for z in extremes])


def cuts(enough: list[tuple[Row, Row]]) -> None:
    """Print what other bounds of the false share would have called ``data`` and ``template``."""
    evident, empty = [], []
    for row, level in enough:
        if _passes(level["beyond"], rule.SURE_Z_SINGLE if level["views"] == 1 else rule.SURE_Z, rule.LEAST_EVIDENCE):
            evident.append((row, level))
        elif Null(*level["beyond"]).z < rule.NONE_Z:
            empty.append((row, level))
    print("\nEvidence, and the false share's upper end at most: called data\n")
    print("| bound | of sets with at most .2 false | of sets with more (largest true share) |\n|---|---|---|")
    for bound in (0.1, 0.2, 0.3, 0.4):
        called = [level["false"] for _, level in evident if level["rate"][2] <= bound]
        good, bad = [f for f in called if f <= rule.CLEAN_FDR], [f for f in called if f > rule.CLEAN_FDR]
        total = sum(level["false"] <= rule.CLEAN_FDR for _, level in evident)
        largest = f"{max(bad):.2f}" if bad else "–"
        print(f"| {bound:g} | {len(good)} of {total} | {len(bad)} of {len(evident) - total} ({largest}) |")
    print("\nNo evidence, and the false share's lower end at least: called template\n")
    print("| bound | of noise | of particles (smallest true share) |\n|---|---|---|")
    noise = sum(not row["score"] for row, _ in empty)
    for bound in (0.5, 0.65, 0.8, 0.9):
        called_noise = sum(not row["score"] and level["rate"][1] >= bound for row, level in empty)
        others = [level["false"] for row, level in empty if row["score"] and level["rate"][1] >= bound]
        least = f"{min(others):.2f}" if others else "–"
        print(f"| {bound:g} | {called_noise} of {noise} | {len(others)} of {len(empty) - noise} ({least}) |")


def _passes(beyond: list[float], z: float, least: float) -> bool:
    null = Null(*beyond)
    return bool(np.isfinite(null.value) and null.z >= z and null.value - null.null_mean >= least)
