"""Measure what a search does not: what can be seen of a schedule before its training has ended.

    raystt search search_spaces/embedded.yaml
    python benchmarks/landscape.py runs/embedded [--schedules 24] [--save]

For some trials of a finished search, spread evenly over its scores, in all its languages:

- trunk: the half-trained model is scored as it is;
- fork: a branch of it is cooled down first, text and learning rate falling to nothing;
- compressed: the whole schedule in fewer steps.

What is measured goes to `landscape.jsonl` in the run's directory; started again, it goes on. With
`--save` all scores, the search's own included, are written as one table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lab import Lab, lab
from record import save
from scipy import stats

import raystt
from raystt.config import RunConfig, SearchConfig
from raystt.results import Result
from raystt.searching.directory import RunDirectory
from raystt.training.jobs import SegmentJob, SegmentResult

AT = (0.25, 0.5)
"""Shares of the training after which a trial is looked at."""
COOLDOWN = 0.1
"""Share of the training that a branch takes."""
SENTENCES = 128

Row = dict[str, Any]


@dataclass(frozen=True)
class Signal:
    """A way to see where a schedule will end: its kind, and how much is trained for it."""

    kind: str
    at: float

    @property
    def cost(self) -> float:
        """Share of a full training that it takes, of one trial and nothing else."""
        return self.at + (COOLDOWN if self.kind == "fork" else 0.0)


SIGNALS = [Signal(kind, at) for kind in ("trunk", "fork", "compressed") for at in AT]


def signals(search: SearchConfig, pools: Lab, states: Path, trial: Result) -> Iterator[Row]:
    """Give each signal of a trial, the trunk trained once for all."""
    run = search.run_for(trial.language, trial.overrides)
    horizon, trunk, before = run.training.steps, None, 0

    def train(
        run: RunConfig, start: int, stop: int, parent: SegmentResult | None, *,
        cooldown: bool = False,
    ) -> SegmentResult:  # fmt: skip
        return pools.train(SegmentJob(
            run=run, corpus=str(pools.corpus), start=start, stop=stop,
            parent=parent.state if parent else None, states=str(states), cooldown=cooldown,
        ), trial.label)  # fmt: skip

    def scored(run: RunConfig, signal: Signal, trained: SegmentResult) -> Row:
        config = run.evaluation.model_copy(update={"sentences": SENTENCES})
        evaluation = pools.score(run, trained, config, trial.label)
        return {
            "language": trial.language, "trial": trial.trial, "seed": trial.seed,
            "signal": signal.kind, "at": signal.at, "cost": signal.cost,
            "asr_bleu": evaluation.score(config).asr_bleu, "sentences": SENTENCES,
            "train_seconds": trained.seconds, "evaluate_seconds": evaluation.seconds,
        }  # fmt: skip

    for at in AT:
        step = round(at * horizon)
        trunk = train(run, before, step, trunk)
        yield scored(run, Signal("trunk", at), trunk)
        branch = train(run, step, step + round(COOLDOWN * horizon), trunk, cooldown=True)
        yield scored(run, Signal("fork", at), branch)
        training = run.training.model_copy(update={"steps": step})
        short = run.model_copy(update={"training": training})
        whole = train(short, 0, step, None)
        yield scored(short, Signal("compressed", at), whole)
        before = step


def spread(results: Sequence[Result], count: int) -> list[Result]:
    """Return proposals spread evenly over their scores."""
    ranked = sorted((r for r in results if r.reference is None), key=lambda r: r.asr_bleu)
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round())
    return [ranked[int(place)] for place in places]


def known(path: Path) -> list[Row]:
    """Read what was measured before."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def measured(rows: Sequence[Row]) -> set[tuple[str, int]]:
    """Return the trials of which all signals are there, by language and number."""
    counts = Counter((row["language"], row["trial"]) for row in rows)
    return {trial for trial, count in counts.items() if count == len(SIGNALS)}


def choose(results: Sequence[Result], rows: Sequence[Row], count: int) -> list[Result]:
    """Return the trials of a language to measure; enough that were measured before are kept.

    They were spread over the scores when they were chosen: a search may have grown since.
    """
    whole = measured(rows)
    before = [r for r in results if (r.language, r.trial) in whole]
    return before if len(before) >= count else spread(results, count)


def measure(search: SearchConfig, directory: RunDirectory, trials: Sequence[Result]) -> None:
    """Measure what is missing of some trials, a line each as it is there."""
    path = directory.path / "landscape.jsonl"
    rows = known(path)
    whole = measured(rows)
    wanted = [r for r in trials if (r.language, r.trial) not in whole]
    rows = [row for row in rows if (row["language"], row["trial"]) in whole]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if not wanted:
        return
    with lab(search, directory.path) as pools:
        states = directory.path / "landscape"
        for done in pools.each(lambda r: list(signals(search, pools, states, r)), wanted):
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in done)
            print(f"{done[0]['language']}#{done[0]['trial']}", flush=True)


def correlations(rows: Sequence[Row], results: Sequence[Result]) -> list[Row]:
    """Compare each signal with the full score: Spearman's rho, and the place of the true best."""
    full = {(r.language, r.trial): r.asr_bleu for r in results}
    found = []
    for signal in SIGNALS:
        for language in sorted({row["language"] for row in rows}):
            pairs = [
                (row["asr_bleu"], full[language, row["trial"]]) for row in rows
                if (row["signal"], row["at"], row["language"]) == (signal.kind, signal.at, language)
            ]  # fmt: skip
            if len(pairs) < 3:  # not measured yet
                continue
            seen, true = np.array(pairs).T
            low, high = _interval(seen, true)
            rho = round(float(stats.spearmanr(seen, true)[0]), 2)
            found.append({
                "signal": signal.kind, "at": signal.at, "cost": signal.cost, "language": language,
                "schedules": len(pairs), "spearman": rho,
                "low": low, "high": high,
                "place_of_the_best": int((seen > seen[np.argmax(true)]).sum()) + 1,
            })  # fmt: skip
    return found


def _interval(seen: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of Spearman's rho over schedules."""
    draws = np.random.default_rng(1).integers(0, len(seen), (1000, len(seen)))
    with np.errstate(invalid="ignore"):
        rhos = [stats.spearmanr(seen[draw], true[draw])[0] for draw in draws]
    low, high = np.nanpercentile(rhos, [2.5, 97.5])
    return round(float(low), 2), round(float(high), 2)


def table(search: SearchConfig, directory: RunDirectory, rows: Sequence[Row]) -> list[Row]:
    """Return all scores, one row each: full trainings first, then signals."""
    full = [
        {
            "language": r.language, "trial": r.trial, "seed": r.seed, "signal": "full", "at": 1.0,
            "cost": 1.0, "split": r.split, "reference": r.reference, "status": r.status,
            "schedule": r.schedule.label(), "overrides": dict(r.overrides),
            "asr_bleu": r.asr_bleu, "low": r.asr_bleu_low, "high": r.asr_bleu_high,
            "sentences": r.sentences, "loss": r.loss, "achieved_words": r.achieved_words,
            "tokens": r.tokens, "train_seconds": r.train_seconds,
            "evaluate_seconds": r.evaluate_seconds,
        }
        for r in [*directory.read(), *directory.read_confirmation()]
    ]  # fmt: skip
    return [*full, *({"split": search.base.evaluation.split, **row} for row in rows)]


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="directory of a finished search")
    parser.add_argument("--schedules", type=int, default=24, help="trials of each language")
    parser.add_argument("--save", action="store_true", help="write into benchmarks/results/")
    options = parser.parse_args()
    directory = RunDirectory(options.run)
    search = directory.load_config()
    results = [r for r in directory.read() if r.split == search.base.evaluation.split]
    rows = known(directory.path / "landscape.jsonl")
    chosen = [
        trial for name in search.languages
        for trial in choose([r for r in results if r.language == name], rows, options.schedules)
    ]  # fmt: skip
    # Languages in turns, so that it can be cut off anywhere.
    chosen.sort(key=lambda r: (r.trial * 7919) % 101)
    measure(search, directory, chosen)
    rows = known(directory.path / "landscape.jsonl")
    compared = correlations(rows, results)
    for row in compared:
        print(
            f"{row['language']} {row['signal']:>10} at {row['at']:.2f} for {row['cost']:.2f} of a "
            f"training: rho {row['spearman']:.2f} [{row['low']:.2f}, {row['high']:.2f}] over "
            f"{row['schedules']}, the best is number {row['place_of_the_best']}"
        )
    if options.save:
        signature = next(r.signature for r in results if r.signature)
        training = search.base.training.model_dump(include={"steps", "learning_rate"})
        setting = {"search": search.name, **training, "signature": signature,
                   "raystt": raystt.__version__}  # fmt: skip
        save("landscape", "the full training of the same schedule and seed", setting,
             [{"signals": compared}, {"scores": table(search, directory, rows)}],
             packages=["ray", "torch", "optuna", "pocketsphinx"])  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
