"""Choose the regime of a landscape on references alone: how loud are seeds, how far is the floor.

    raystt prepare search_spaces/embedded.yaml
    python benchmarks/regime.py search_spaces/embedded.yaml [--save]

In each regime the paper's staircase is trained on several seeds and `none` on the first two of
them, in all languages of the search; no other schedule is looked at. What was trained goes to
`regime.jsonl` in the directory of the search; started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lab import lab
from record import save

from raystt.config import SearchConfig, load_search
from raystt.training.jobs import whole_run

REGIMES: dict[str, dict[str, Any]] = {
    "250 steps at 2e-3": {"training.steps": 250, "training.learning_rate": 2e-3},
    "250 steps at 4e-3": {"training.steps": 250, "training.learning_rate": 4e-3},
    "250 steps at 1e-3": {"training.steps": 250, "training.learning_rate": 1e-3},
    "400 steps at 2e-3": {"training.steps": 400, "training.learning_rate": 2e-3},
}
"""What each changes of the search's base."""
SEEDS = {"paper": (1, 2, 3, 4, 5), "none": (1, 2)}

Row = Mapping[str, Any]


def wanted(
    search: SearchConfig, regimes: Sequence[str], known: Sequence[Row]
) -> list[tuple[str, str, str, int]]:
    """Return regime, language, schedule and seed of what is not trained yet."""
    done = {(r["regime"], r["language"], r["schedule"], r["seed"]) for r in known}
    every = [
        (regime, language, schedule, seed)
        for regime in regimes for schedule, seeds in SEEDS.items() for seed in seeds
        for language in search.languages
    ]  # fmt: skip
    return [one for one in every if one not in done]


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return mean and SD of the staircase over its seeds, and the floor, of each whole regime."""
    scores: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        scores[row["regime"], row["language"], row["schedule"]].append(row["asr_bleu"])
    found = []
    for regime, language in dict.fromkeys((row["regime"], row["language"]) for row in rows):
        each = {name: scores[regime, language, name] for name in SEEDS}
        if any(len(each[name]) < len(seeds) for name, seeds in SEEDS.items()):
            continue
        found.append({
            "regime": regime, "changes": REGIMES[regime], "language": language,
            "paper": round(float(np.mean(each["paper"])), 2),
            "sd": round(float(np.std(each["paper"], ddof=1)), 2),
            "none": round(float(np.mean(each["none"])), 2),
        })  # fmt: skip
    return found


def measure(
    search: SearchConfig, directory: Path, runs: Sequence[tuple[str, str, str, int]]
) -> Iterator[Row]:
    """Train and score runs as the pools get free; give each as it is there."""
    with lab(search, directory) as pools:

        def one(asked: tuple[str, str, str, int]) -> Row:
            regime, language, schedule, seed = asked
            overrides = {**search.reference(schedule), **REGIMES[regime]}
            run, label = search.run_for(language, overrides, seed=seed), " ".join(map(str, asked))
            job = whole_run(run, pools.corpus, directory / label.replace(" ", "-"))
            trained = pools.train(job, label)
            evaluation = pools.score(run, trained, run.evaluation, label)
            score = evaluation.score(run.evaluation)
            return {
                "regime": regime, "language": language, "schedule": schedule, "seed": seed,
                "split": run.evaluation.split, "asr_bleu": score.asr_bleu, "ci": score.ci,
                "sentences": score.sentences, "tokens": trained.tokens,
                "train_seconds": trained.seconds, "evaluate_seconds": evaluation.seconds,
                "signature": score.signature,
            }  # fmt: skip

        yield from pools.each(one, runs)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("search", type=Path, help="search_spaces/….yaml, prepared")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--save", action="store_true", help="write into benchmarks/results/")
    options = parser.parse_args()
    search = load_search(options.search)
    directory = Path(search.base.storage).resolve() / f"{search.name}-regimes"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "regime.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines]
    runs = wanted(search, options.regimes, rows)
    for row in measure(search, directory, runs) if runs else ():
        rows.append(row)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        print(
            f"{row['regime']}, {row['language']} {row['schedule']}, seed {row['seed']}: "
            f"{row['asr_bleu']:.1f} in {row['train_seconds'] + row['evaluate_seconds']:.0f} s",
            flush=True,
        )
    regimes = summary(rows)
    for r in regimes:
        print(
            f"{r['regime']} {r['language']}: paper {r['paper']:.1f}, SD {r['sd']:.2f}; "
            f"none {r['none']:.1f}"
        )
    if options.save:
        setting = {"search": search.name, "regimes": REGIMES, "signature": rows[0]["signature"]}
        rows = [{k: v for k, v in row.items() if k != "signature"} for row in rows]
        save(
            "regime", "the paper's staircase over seeds, in each regime", setting,
            [{"regimes": regimes}, {"scores": rows}],
            packages=("ray", "torch", "pocketsphinx"),
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
