"""Made-up results, for tests of what is done with them."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import numpy as np

from raystt.evaluation.jobs import hypotheses_of
from raystt.results import Result
from raystt.schedule import Linear
from raystt.scores import bleu, chrf
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import fresh_seeds

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

LINEAR = Linear(initial=0.9, end=0.8)
SIGNATURE = "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|asr:pocketsphinx|vocoder:conv|norm:plain"


def result(trial: int, asr_bleu: float, **changes: Any) -> Result:
    """Return a finished trial of "es" with an interval of 5 to both sides."""
    values: dict[str, Any] = {
        "language": "es", "trial": trial, "reference": None, "seed": 1,
        "overrides": {"schedule.end": 0.8}, "split": "dev", "status": "complete",
        "schedule": LINEAR, "step": 350, "steps": 350, "asr_bleu": asr_bleu,
        "asr_bleu_low": asr_bleu - 5, "asr_bleu_high": asr_bleu + 5, "signature": SIGNATURE,
        "sentences": 64, "truncated": 0.0, "chrf": None, "text_bleu": None,
        "source_text_bleu": None, "utmos": None, "signatures": {}, "loss": 2.5, "ratio": 0.0,
        "achieved_words": 0.4, "tokens": 100_000,
        "train_seconds": 30.0, "setup_seconds": 0.5, "evaluate_seconds": 8.0, "wait_seconds": 3.0,
        "overhead_seconds": 0.25, "started": 1000.0 + 10 * trial, "ended": 1040.0 + 10 * trial,
        "states": (f"{trial:020x}",),
    }  # fmt: skip
    return Result(**{**values, **changes})


def diverged(trial: int, **changes: Any) -> Result:
    """Return a trial that diverged at step 120."""
    zero = {"asr_bleu_low": 0.0, "asr_bleu_high": 0.0, "signature": "", "step": 120, "loss": None}
    return result(trial, 0.0, **{"status": "diverged", **zero, **changes})


@functools.cache
def _counts(said: str) -> tuple[list[int], list[int]]:
    """What a sentence adds to BLEU and to chrF."""
    words, letters = (m.statistics([said], [" ".join(WORDS)]) for m in (bleu(), chrf()))
    return words[0].tolist(), letters[0].tolist()


def confirm(
    directory: RunDirectory, one: Result, right: float, rng: np.random.Generator,
    dev: float | None = None,
) -> None:  # fmt: skip
    """Write what a trial gives on fresh seeds: hypotheses with a share of the words right.

    On dev it is another share, if one is given.
    """
    for seed in fresh_seeds(directory.load_config()):
        for split, share in (("dev", right if dev is None else dev), ("test", right)):
            said = [" ".join(w if rng.random() < share else "wrong" for w in WORDS)
                    for _ in range(60)]  # fmt: skip
            rows, letters = (np.array(each) for each in zip(*map(_counts, said), strict=True))
            again = dataclasses.replace(
                one,
                seed=seed,
                fresh=True,
                split=split,
                asr_bleu=bleu().point(rows),
                chrf=chrf().point(letters),
            )
            path = hypotheses_of(directory.trials / again.folder, split)
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                json.dumps({"statistics": {"asr_bleu": words, "chrf": grams}}) + "\n"
                for words, grams in zip(rows.tolist(), letters.tolist(), strict=True)
            ]
            path.write_text("".join(lines))
            directory.append_confirmation(again)
