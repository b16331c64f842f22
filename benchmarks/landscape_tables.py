"""What a measured landscape says, as tables in Markdown.

    python benchmarks/landscape_tables.py benchmarks/results/landscape-cpu-DATE.json [OTHER]

TABLE is what `landscape.py --save` wrote: how much schedules matter against seeds, the response to
where a schedule begins and ends, where the named ones stand, what each early signal is worth, and
whether the languages want the same. With OTHER, such a table of another horizon: whether the same
schedules lead in both.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Row = Mapping[str, Any]
INITIAL = (0.3, 0.5, 0.7, 0.85, 1.0)
END = (0.3, 0.5, 0.7, 0.85, 1.0)
ACHIEVED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6)


def of(rows: Sequence[Row], language: str, split: str) -> list[Row]:
    """Return the full trainings of a language."""
    return [r for r in rows
            if (r["language"], r["split"], r["signal"]) == (language, split, "full")]  # fmt: skip


def noise(rows: Sequence[Row]) -> tuple[float, int]:
    """Return the standard deviation over seeds of the same schedule, and its degrees of freedom."""
    seeds = defaultdict(list)
    for row in rows:
        if row["status"] == "complete":
            seeds[row["trial"]].append(row["asr_bleu"])
    repeated = [scores for scores in seeds.values() if len(scores) > 2]
    # The score that chose a schedule is no draw of its noise: the first seed is left out.
    fresh = [scores[1:] for scores in repeated]
    degrees = sum(len(scores) - 1 for scores in fresh)
    squares = sum(float(np.var(scores)) * len(scores) for scores in fresh)
    return math.sqrt(squares / degrees), degrees


def first(rows: Sequence[Row]) -> dict[int, Row]:
    """Return the trials of the search itself: their first seed."""
    found: dict[int, Row] = {}
    for row in rows:
        found.setdefault(row["trial"], row)
    return found


def between(rows: Sequence[Row]) -> float:
    """Return the standard deviation over the points of the family, without that of seeds."""
    drawn = [r["asr_bleu"] for r in first(rows).values() if r["reference"] is None]
    return math.sqrt(max(0.0, float(np.var(drawn, ddof=1)) - noise(rows)[0] ** 2))


def components(table: Sequence[Row], languages: Sequence[str]) -> Iterator[str]:
    """Compare what schedules and seeds do to a score."""
    yield from ("| language | mean | SD over schedules | the leading quarter | SD over seeds |",
                "|---|---:|---:|---:|---:|")  # fmt: skip
    for language in languages:
        rows = of(table, language, "dev")
        sigma, degrees = noise(rows)
        drawn = sorted(r["asr_bleu"] for r in first(rows).values() if r["reference"] is None)
        lead = drawn[-len(drawn) // 4 :]
        yield (
            f"| {language} | {np.mean(drawn):.1f} | {between(rows):.1f} | "
            f"{np.mean(lead):.1f}, from {lead[0]:.1f} to {lead[-1]:.1f} | "
            f"{sigma:.2f} ({degrees} degrees of freedom) |"
        )


def response(table: Sequence[Row], language: str) -> Iterator[str]:
    """Show the mean score by where a schedule begins and ends."""
    drawn = [r for r in first(of(table, language, "dev")).values() if r["reference"] is None]
    heads = [f"text until {a:g} to {b:g}" for a, b in zip(END, END[1:], strict=False)]
    yield "| " + " | ".join([f"{language}, from", *heads]) + " |"
    yield "|---|" + "---:|" * len(heads)
    for low, high in zip(INITIAL, INITIAL[1:], strict=False):
        cells = [f"{low:g} to {high:g}"]
        for begins, ends in zip(END, END[1:], strict=False):
            scores = [
                r["asr_bleu"] for r in drawn
                if low < r["overrides"]["schedule.initial"] <= high
                and begins < r["overrides"]["schedule.end"] <= ends
            ]  # fmt: skip
            cells.append(f"{np.mean(scores):.1f} ({len(scores)})" if scores else "")
        yield "| " + " | ".join(cells) + " |"


def achieved(table: Sequence[Row], languages: Sequence[str]) -> Iterator[str]:
    """Show the mean score by the share of words that were text over the whole training."""
    heads = [f"{a:g} to {b:g}" for a, b in zip(ACHIEVED, ACHIEVED[1:], strict=False)]
    yield "| " + " | ".join(["share of text", *heads]) + " |"
    yield "|---|" + "---:|" * len(heads)
    for language in languages:
        drawn = [r for r in first(of(table, language, "dev")).values() if r["reference"] is None]
        cells = [language]
        for low, high in zip(ACHIEVED, ACHIEVED[1:], strict=False):
            scores = [r["asr_bleu"] for r in drawn if low < r["achieved_words"] <= high]
            cells.append(f"{np.mean(scores):.1f} ({len(scores)})" if scores else "")
        yield "| " + " | ".join(cells) + " |"


def named(table: Sequence[Row], languages: Sequence[str]) -> Iterator[str]:
    """Show where the named schedules stand among those that were drawn."""
    yield "| schedule | " + " | ".join(f"{n}, dev | place" for n in languages) + " |"
    yield "|---|" + "---:|---:|" * len(languages)
    found = {name: first(of(table, name, "dev")) for name in languages}
    scores = {n: sorted(r["asr_bleu"] for r in one.values() if r["reference"] is None)
              for n, one in found.items()}  # fmt: skip
    for row in next(iter(found.values())).values():
        if row["reference"] is None:
            continue
        cells = [row["reference"]]
        for name, one in found.items():
            mine = next(r for r in one.values() if r["reference"] == row["reference"])
            above = sum(score > mine["asr_bleu"] for score in scores[name])
            cells += [f"{mine['asr_bleu']:.1f} [{mine['low']:.1f}, {mine['high']:.1f}]",
                      f"{above + 1} of {len(scores[name]) + 1}"]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def fresh(table: Sequence[Row], language: str) -> Iterator[str]:
    """Show what was trained on fresh seeds."""
    yield f"| {language} | schedule | chosen by, dev | fresh seeds, dev | fresh seeds, test |"
    yield "|---|---|---:|---:|---:|"
    seeds: dict[tuple[int, str], list[float]] = defaultdict(list)
    chosen = first(of(table, language, "dev"))
    for split in ("dev", "test"):
        for row in of(table, language, split):
            if row["seed"] != chosen[row["trial"]]["seed"]:
                seeds[row["trial"], split].append(row["asr_bleu"])
    trials = {trial for trial, _ in seeds}
    for trial in sorted(trials, key=lambda t: -float(np.mean(seeds[t, "test"]))):
        row = chosen[trial]
        each = [", ".join(f"{s:.1f}" for s in seeds[trial, split]) for split in ("dev", "test")]
        means = [float(np.mean(seeds[trial, split])) for split in ("dev", "test")]
        yield (
            f"| #{trial} {row['reference'] or ''} | {row['schedule']} | {row['asr_bleu']:.1f} | "
            f"{means[0]:.1f} ({each[0]}) | {means[1]:.1f} ({each[1]}) |"
        )


def agreement(table: Sequence[Row], languages: Sequence[str]) -> Iterator[str]:
    """Say whether two languages rank the same schedules alike, beyond what seeds explain."""
    one, other = (first(of(table, name, "dev")) for name in languages[:2])
    both = [t for t in one if t in other and one[t]["overrides"] == other[t]["overrides"]]
    a, b = (np.array([found[t]["asr_bleu"] for t in both]) for found in (one, other))
    sigmas = [noise(of(table, name, "dev")) for name in languages[:2]]
    expected = sum(sigma**2 for sigma, _ in sigmas)
    degrees = sum(d for _, d in sigmas)
    variance = float(np.var(a - b, ddof=1))
    p = float(stats.f.sf(variance / expected, len(both) - 1, degrees))
    rho = float(stats.spearmanr(a, b)[0])
    yield (
        f"Over {len(both)} schedules that both were trained on, Spearman's rho of {languages[0]} "
        f"and {languages[1]} is {rho:.2f}. Their differences have an SD of "
        f"{math.sqrt(variance):.1f}; seeds alone would give {math.sqrt(expected):.1f} (F test, "
        f"p = {p:.1e})."
    )


def beside(table: Sequence[Row], other: Sequence[Row], languages: Sequence[str]) -> Iterator[str]:
    """Compare how two tables rank the schedules that both have."""
    yield (
        "| language | schedules | Spearman's rho | if ranks were equal, seeds would leave | place "
        "there of the best here | place here of the best there |"
    )
    yield "|---|---:|---:|---:|---:|---:|"
    for language in languages:
        rows = [of(each, language, "dev") for each in (table, other)]
        there = {_curve(row): row["asr_bleu"] for row in first(rows[1]).values()}
        here = [r for r in first(rows[0]).values() if _curve(r) in there]
        a = np.array([row["asr_bleu"] for row in here])
        b = np.array([there[_curve(row)] for row in here])
        # What noise leaves of a correlation of 1: the root of the shares of variance that are real.
        shares = [between(each) ** 2 / (between(each) ** 2 + noise(each)[0] ** 2) for each in rows]
        rho = float(stats.spearmanr(a, b)[0])
        yield (
            f"| {language} | {len(here)} | {rho:.2f} | {math.sqrt(math.prod(shares)):.2f} | "
            f"{int((b > b[a.argmax()]).sum()) + 1} | {int((a > a[b.argmax()]).sum()) + 1} |"
        )


def _curve(row: Row) -> str:
    """Return what tells a schedule from another one, horizons aside."""
    return json.dumps([row["reference"], row["overrides"]], sort_keys=True)


def signals(found: Sequence[Row]) -> Iterator[str]:
    """Show what each early signal is worth."""
    yield "| signal | at | costs | language | Spearman's rho | place of the true best |"
    yield "|---|---:|---:|---|---:|---:|"
    for r in found:
        yield (
            f"| {r['signal']} | {r['at']:g} | {r['cost']:.2f} | {r['language']} | "
            f"{r['spearman']:.2f} [{r['low']:.2f}, {r['high']:.2f}] | "
            f"{r['place_of_the_best']} of {r['schedules']} |"
        )


def read(path: Path) -> dict[str, list[Row]]:
    """Read the parts of a table: "scores", and "signals" if there are any."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return {name: part[name] for part in record["results"] for name in part}


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("other", type=Path, nargs="?", help="of another horizon, to compare with")
    options = parser.parse_args()
    parts = read(options.table)
    table = parts["scores"]
    languages = list(dict.fromkeys(row["language"] for row in table))
    sections: list[tuple[str, Iterator[str]]] = [
        ("Schedules against seeds", components(table, languages)),
        ("Named schedules", named(table, languages)),
        ("Share of text", achieved(table, languages)),
        *((f"Response, {name}", response(table, name)) for name in languages),
        *((f"On fresh seeds, {name}", fresh(table, name)) for name in languages),
        ("Languages", agreement(table, languages)),
        ("Early signals", signals(parts.get("signals", []))),
    ]
    if options.other:
        other = read(options.other)["scores"]
        sections.append(("The other table", beside(table, other, languages)))
    for title, lines in sections:
        print(f"### {title}\n", *lines, sep="\n", end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
