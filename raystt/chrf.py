"""chrF of transcribed speech from additive statistics of sentences, through sacrebleu.

The company of `raystt.bleu`: characters forgive a wrong ending that costs BLEU four n-grams.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.chrf import CHRF

Statistics = npt.NDArray[np.int64]

COLUMNS = 18  # of each character order 1 to 6: n-grams of hypothesis, of reference, in both


def statistics(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = True
) -> Statistics:
    """Count what chrF needs of every sentence.

    Args:
        hypotheses: Transcripts, normalised; an empty one is legal and matches nothing.
        references: One reference a hypothesis, normalised.
        lowercase: Whether case counts for nothing.

    Returns:
        int64 [sentences, 18]: n-grams of the hypothesis, of the reference and in both, for each
        order from 1 to 6. Rows may be concatenated and summed.

    Raises:
        ValueError: The two lists differ in length.
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(references)} references; "
            'give one of each a sentence, and "" where nothing was recognised'
        )
    rows = np.zeros((len(hypotheses), COLUMNS), np.int64)
    if len(rows):
        # No public call of sacrebleu gives them; a test compares the scores with those it gives.
        rows[:] = _metric(lowercase)._extract_corpus_statistics(hypotheses, [references])
    return rows


def point(stats: Statistics) -> float:
    """Return the corpus chrF of sacrebleu, 0 to 100, of int64 [sentences, 18].

    Raises:
        ValueError: There are no sentences, or the statistics have another shape.
    """
    if stats.ndim != 2 or stats.shape[1] != COLUMNS or not len(stats):
        raise ValueError(
            f"statistics have shape {stats.shape}; give [sentences, {COLUMNS}] of one sentence "
            "at least"
        )
    sums = [int(value) for value in stats.sum(axis=0)]
    return float(_metric(True)._compute_score_from_stats(sums).score)


@functools.cache
def signature(*, lowercase: bool = True) -> str:
    """Return sacrebleu's own signature."""
    metric = _metric(lowercase)
    metric.corpus_score(["a"], [["a"]])  # the signature knows its references only after a score
    return str(metric.get_signature())


@functools.cache
def _metric(lowercase: bool) -> CHRF:
    return CHRF(lowercase=lowercase)
