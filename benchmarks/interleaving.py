"""Measure vectorised interleaving against a literal loop of the paper's Algorithm 1.

    python benchmarks/interleaving.py [--save]

Both build the same kind of training sequences of a step's batch, alternately in one process. raystt
builds those of several steps at once where batches are small, as in training. The
reference selects words utterance by utterance as arXiv 2506.10299 writes it and joins Python lists;
it draws from a shared generator, so its tokens differ and its work does not. Prints the ratio of
the times, in CPU seconds so that a busy machine does not blur it; `--save` writes it with all that
is needed to repeat it below `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from typing import Any

import numpy as np
from record import save

from raystt.interleaving.rules import Interleaving
from raystt.interleaving.sequences import Layout, Side, interleave
from raystt.training.batches import _AT_ONCE

LAYOUT = Layout(bos=1, separator=2, eos=3, mask=4, speech=5, text=6)
WORDS, TEXT, UNITS = (5, 10), (1, 2), (3, 8)  # a side, a word, a word: as in the embedded corpus
SPAN_MEAN = 3.0
RATIO = 0.5

Words = list[tuple[list[int], list[int]]]


def make_side(utterances: int, rng: random.Random) -> list[Words]:
    """Draw the text and unit tokens of every word of every utterance."""

    def tokens(span: tuple[int, int], first: int, last: int) -> list[int]:
        return [rng.randint(first, last) for _ in range(rng.randint(*span))]

    return [
        [(tokens(TEXT, 10, 399), tokens(UNITS, 400, 700)) for _ in range(rng.randint(*WORDS))]
        for _ in range(utterances)
    ]


def literal_stream(words: Words, ratio: float, rng: np.random.Generator) -> list[int]:
    """Run Algorithm 1 on one side of one utterance."""
    selected = [False] * len(words)
    count = 0
    while count < len(words) and count / len(words) <= ratio:
        free = [word for word, taken in enumerate(selected) if not taken]
        start = free[int(rng.integers(len(free)))]
        for word in range(start, min(start + int(rng.poisson(SPAN_MEAN)) + 1, len(words))):
            count += not selected[word]
            selected[word] = True
    stream: list[int] = []
    for (text, units), taken in zip(words, selected, strict=True):
        stream += text if taken else units
    return stream


def literal_batch(
    sources: list[Words], targets: list[Words], ratio: float, rng: np.random.Generator
) -> tuple[Any, Any]:
    """Build tokens and labels of a batch, one utterance after the other."""
    tokens: list[int] = []
    labels: list[int] = []
    for source, target in zip(sources, targets, strict=True):
        context = [LAYOUT.bos, *literal_stream(source, ratio, rng), LAYOUT.separator]
        learned = [*literal_stream(target, ratio, rng), LAYOUT.eos]
        tokens += context + learned
        labels += [-100] * len(context) + learned
    return np.array(tokens, np.int32), np.array(labels, np.int64)


def measure(utterances: int, rounds: int) -> dict[str, Any]:
    """Time both on a batch, alternately; CPU seconds are medians of the rounds."""
    rng = random.Random(1)
    steps = max(1, _AT_ONCE // utterances)
    count = steps * utterances
    sources, targets = make_side(count, rng), make_side(count, rng)
    source, target = Side.from_words(sources), Side.from_words(targets)
    keys = np.array([rng.getrandbits(64) for _ in range(count)], np.uint64)
    ratios = np.full((count, 2), RATIO)
    interleaving = Interleaving(rule="poisson", span_mean=SPAN_MEAN)
    generator = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {"vectorised": [], "literal": []}
    tokens = 0
    for turn in range(rounds + 1):
        begin = time.process_time()
        made = interleave(
            source,
            target,
            ratios,
            keys=keys,
            epochs=np.full(count, turn, np.int64),
            seed=1,
            interleaving=interleaving,
            layout=LAYOUT,
        )
        for first in range(0, count, utterances):
            made.part(first, first + utterances)
        middle = time.process_time()
        for first in range(0, count, utterances):
            some = slice(first, first + utterances)
            literal_batch(sources[some], targets[some], RATIO, generator)
        end = time.process_time()
        if turn:  # the first turn warms up
            seconds["vectorised"].append(middle - begin)
            seconds["literal"].append(end - middle)
            tokens += len(made.tokens)
    fast, slow = (statistics.median(seconds[name]) for name in ("vectorised", "literal"))
    return {
        "batch_utterances": utterances,
        "steps_at_once": steps,
        "rounds": rounds,
        "vectorised_samples_per_second": round(count / fast),
        "literal_samples_per_second": round(count / slow),
        "vectorised_tokens_per_second": round(tokens / rounds / fast),
        "ratio": round(slow / fast, 2),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    parser.add_argument("--rounds", type=int, default=30, help="timed turns a batch size")
    options = parser.parse_args()
    results = [measure(utterances, options.rounds) for utterances in (16, 64, 1024)]
    for result in results:
        print(
            f"batch of {result['batch_utterances']:>4}: vectorised "
            f"{result['vectorised_samples_per_second']:>7,} samples/s, literal loop "
            f"{result['literal_samples_per_second']:>6,} samples/s, ratio {result['ratio']}"
        )
    if options.save:
        setting = {
            "ratio": RATIO,
            "span_mean": SPAN_MEAN,
            "words_a_side": WORDS,
            "text_tokens_a_word": TEXT,
            "units_a_word": UNITS,
        }
        reference = "literal loop of Algorithm 1, arXiv 2506.10299, in this script"
        save("interleaving", reference, setting, results, packages=["numpy"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
