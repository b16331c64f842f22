"""Measure what evaluations would save that end once a trial is shown to be behind.

    python benchmarks/early_stop.py RUN [--save]

Hypotheses of a search are looked at again in the order of its trials: after 1/8, 1/4 and 1/2 of the
sentences a trial is compared with the best of those before it, on the same sentences, and stops if
it is behind with p under 0.05 divided by the three looks (Bonferroni: a trial that is as good as
the best is stopped with a probability of at most 0.05 over all looks). All sentences are known
here, so that it is seen which stops were mistakes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from record import save

from raystt.evaluation.jobs import hypotheses_of, read_statistics
from raystt.results import Result
from raystt.scores import Statistics, bleu
from raystt.searching.directory import RunDirectory

LOOKS = (1 / 8, 1 / 4, 1 / 2)
ERROR = 0.05


def look(mine: Statistics, incumbent: Statistics) -> int:
    """Return how many sentences it takes until a trial is behind, all of them if it never is."""
    for share in LOOKS:
        count = round(len(mine) * share)
        difference, _, p = bleu().compare(mine[:count], incumbent[:count])
        if difference < 0 and p < ERROR / len(LOOKS):
            return count
    return len(mine)


def replay(results: Sequence[Result], directory: RunDirectory) -> dict[str, Any]:
    """Return what a language's trials would have taken."""
    best: tuple[float, Statistics] | None = None
    used = whole = stopped = 0
    mistakes: list[float] = []
    seconds = saved = 0.0
    for one in sorted(results, key=lambda r: r.trial):
        if one.status != "complete":
            continue
        path = hypotheses_of(directory.trials / one.folder, one.split)
        rows = read_statistics(path, "asr_bleu")
        count = len(rows) if best is None else look(rows, best[1])
        used, whole, stopped = used + count, whole + len(rows), stopped + (count < len(rows))
        seconds += one.train_seconds + one.evaluate_seconds
        saved += one.evaluate_seconds * (1 - count / len(rows))
        if best is not None and count < len(rows) and one.asr_bleu > best[0]:
            mistakes.append(one.asr_bleu - best[0])
        if count == len(rows) and (best is None or one.asr_bleu > best[0]):
            best = one.asr_bleu, rows
    return {
        "trials": len(results), "stopped": stopped, "sentences": round(used / whole, 3),
        "time_saved": round(saved / seconds, 3), "mistakes": [round(m, 2) for m in mistakes],
    }  # fmt: skip


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="directory of a search")
    parser.add_argument("--save", action="store_true", help="write into benchmarks/results/")
    options = parser.parse_args()
    directory = RunDirectory(options.run)
    search = directory.load_config()
    split = search.base.evaluation.split
    rows = []
    for language in search.languages:
        mine = [r for r in directory.read() if (r.language, r.split) == (language, split)]
        row = {"language": language, **replay(mine, directory)}
        print(
            f"{language}: {row['stopped']} of {row['trials']} trials stopped, "
            f"{row['sentences']:.0%} of the sentences, {row['time_saved']:.0%} of all time saved, "
            f"better than the best before them: {row['mistakes'] or 'none'}"
        )
        rows.append(row)
    if options.save:
        save("early_stop", "all sentences", {"search": search.name, "looks": LOOKS}, rows,
             packages=["sacrebleu"])  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
