"""Replay searches on a measured landscape: true regret and optimism against cost.

    python benchmarks/search.py TABLE [--repetitions 200] [--processes 2] [--ways PART] [--save]
    python benchmarks/search.py TABLE --noise 2 | --rho low | --rho high
    python benchmarks/search.py TABLE … --save --resume benchmarks/results/search-….json

TABLE is what `landscape.py --save` wrote. Each way to search is repeated with other random numbers
in each of its languages. Cost is counted in full trainings, everything included that a way needs
before it answers. Regret is what the best schedule of the family scores more than the answer, by
the surface and without noise; optimism is what was reported for the answer minus what it scores.
All ways take hours: `--save` writes what is there after each, and `--resume` goes on. `--noise`
makes seeds differ more than those of the table, `--rho` takes an end of the interval of each early
signal's rank correlation: what comes of that is a file of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from record import ROOT, git, save
from surrogate import Landscape, curve_of, read_table
from ways import BUDGETS, WAYS, Answer, Answers, needs

from raystt.config import load_search

_DRAWN = 4096

LANDSCAPES: dict[str, Landscape] = {}
"""By language."""


class Drawn:
    """A trial that takes values at random, without a study.

    Args:
        rng: Where they come from.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""
        return choices[int(self._rng.integers(len(choices)))]

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
        """Return a number of the range."""
        return float(self._rng.uniform(low, high))


def highest(landscape: Landscape) -> float:
    """Return the best score of the family and the fixed runs, by the surface."""
    search, language = landscape.search, landscape.language
    trial: Any = Drawn(np.random.default_rng(0))
    curves = [landscape.curve(search.space.suggest(trial, language)) for _ in range(_DRAWN)]
    fixed = [curve_of(search, language, search.reference(n)) for n in search.fixed(language)]
    return float(
        landscape.full.many(np.array([*curves, *(c for c in fixed if c is not None)])).max()
    )


def at(budget: float, answers: Sequence[Answer]) -> Answer | None:
    """Return what a way would answer for a budget."""
    afforded = [answer for answer in answers if answer.cost <= budget]
    return afforded[-1] if afforded else None


def summed(
    name: str, landscapes: dict[str, Landscape], top: dict[str, float], runs: Sequence[Answers]
) -> list[dict[str, Any]]:
    """Return what a way gives, a row each budget: means over repetitions and languages.

    Beside regret, its standard error and optimism: what raystt itself says of how much the highest
    score flattered itself, and in which share of its searches a proposal was not promoted.
    """
    rows: list[dict[str, Any]] = []
    for budget in BUDGETS:
        found = [
            (top[language] - landscapes[language].full(answer.curve), answer, top[language])
            for answers in runs for language in landscapes
            if (answer := at(budget, answers[language])) is not None
        ]  # fmt: skip
        if not found:
            continue
        regrets = [regret for regret, *_ in found]
        means = {
            "regret": fmean(regrets),
            "error": float(np.std(regrets) / np.sqrt(len(regrets))),
            "optimism": fmean(a.reported - (best - regret) for regret, a, best in found),
        }
        told = [answer.told for _, answer, _ in found if answer.told is not None]
        if told:
            means["told"] = fmean(told)
        if "promoted" in name:
            means["dropped"] = fmean(answer.dropped for _, answer, _ in found)
        means = {key: round(value, 2) for key, value in means.items()}
        rows.append({"way": name, "budget": budget, "repetitions": len(runs), **means})
    return rows


def run(name: str, seed: int) -> Answers:
    """Run one way once, in a process that has inherited the landscapes."""
    return WAYS[name](LANDSCAPES, seed)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--ways", default="", metavar="PART", help="one, or those with this in its name"
    )
    parser.add_argument("--save", action="store_true", help="write into benchmarks/results/")
    parser.add_argument(
        "--resume", type=Path, metavar="RESULTS", help="take the ways that were written before"
    )
    parser.add_argument("--noise", type=float, default=1.0, help="how many times the table's")
    parser.add_argument("--rho", choices=["spearman", "low", "high"], default="spearman")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    search = load_search(ROOT / "search_spaces" / "embedded.yaml")
    LANDSCAPES.update({
        name: Landscape(
            search, name, *read_table(options.table), factor=options.noise, rho=options.rho
        )
        for name in search.languages
    })  # fmt: skip
    top = {name: highest(one) for name, one in LANDSCAPES.items()}
    setting: dict[str, Any] = {
        "table": options.table.name, "noise": options.noise, "rho": options.rho,
    }  # fmt: skip
    for name, one in LANDSCAPES.items():
        paper = one.full(one.curve(search.reference("paper")))
        setting[name] = {
            "highest": round(top[name], 2), "paper": round(paper, 2),
            "surface_error": round(one.full.error, 2), "explained": round(one.full.explained, 2),
            "seed_sd": round(one.noise.seeds, 2), "seed_degrees": one.noise.degrees,
            "sentence_sd": [round(one.noise.dev, 2), round(one.noise.test, 2)],
            "signals": [
                {"signal": kind, "at": at_, "measured": s.measured,
                 "replayed": round(s.replayed, 2)} for (kind, at_), s in one.signals.items()
            ],
        }  # fmt: skip
        print(name, json.dumps(setting[name]), flush=True)
    rows: list[dict[str, Any]] = []
    if options.resume:
        before = json.loads(options.resume.read_text(encoding="utf-8"))
        if before["setting"] != setting:
            parser.error(f"{options.resume}: of another table or setting")
        rows = before["results"]
    print(" " * 56 + "regret (optimism) at " + ", ".join(map(str, BUDGETS)))
    measured = {kind for one in LANDSCAPES.values() for kind, _ in one.signals}
    part = options.ways
    chosen = [part] if part in WAYS else [name for name in WAYS if part in name]
    chosen = [name for name in chosen if name not in {row["way"] for row in rows}]
    # Of some ways alone, or of another setting: beside what all of them gave.
    other = f" noise {options.noise:g}" * (options.noise != 1)
    other += f" rho {options.rho}" * (options.rho != "spearman")
    file = "-".join(["search", *re.findall(r"\w+", "" if options.resume else part + other)])
    commit = git("rev-parse", "HEAD")
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for name in chosen:
            if needs(name) not in {None, *measured}:
                print(f"{name:>56} needs a signal that the table lacks: {needs(name)}")
                continue
            began = time.monotonic()
            runs = pool.starmap(run, [(name, s) for s in range(options.repetitions)], chunksize=1)
            mine = summed(name, LANDSCAPES, top, runs)
            cells = (f"{row['regret']:5.2f} ({row['optimism']:4.1f})" for row in mine)
            print(f"{name:>56} {' '.join(cells)}  {time.monotonic() - began:.0f} s", flush=True)
            rows += [row | {"commit": commit} for row in mine]
            if options.save:
                save(file, "each way, on the same landscape", setting, rows,
                     packages=["optuna", "ray", "scikit-learn"])  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
