"""BLEU of transcribed speech from additive statistics of sentences, through sacrebleu.

A sentence gives ten integers. They are added over sentences, shards and actors before anything is
scored: an average of the BLEU of shards is not a BLEU. A score is never separated from its
signature, which says how speech became text as well as how text became a number.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.bleu import BLEU

Statistics = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

COLUMNS = 10  # hypothesis length, reference length, 4 matches, 4 totals; the order of sacrebleu
_ORDER = 4
_CHUNK = 1 << 22  # sentence counts of resamples held at once: 32 MB


@dataclass(frozen=True)
class Score:
    """Hold the ASR-BLEU of a corpus.

    Attributes:
        asr_bleu: Corpus BLEU, 0 to 100.
        ci: 95 % bootstrap interval over sentences, lower and upper bound.
        signature: How the number came about; two scores compare only if it is the same.
        sentences: Sentences that were scored.
    """

    asr_bleu: float
    ci: tuple[float, float]
    signature: str
    sentences: int


def statistics(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = True
) -> Statistics:
    """Count what BLEU needs of every sentence.

    Args:
        hypotheses: Transcripts, normalised; an empty one is legal and matches nothing.
        references: One reference a hypothesis, normalised.
        lowercase: Whether case counts for nothing (sacrebleu's `case:lc`) or counts (`case:mixed`).

    Returns:
        int64 [sentences, 10]: hypothesis length, reference length, matching n-grams of order 1 to
        4, hypothesis n-grams of order 1 to 4. Rows may be concatenated and summed.

    Raises:
        ValueError: The two lists differ in length.
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(references)} references; "
            'give one of each a sentence, and "" where nothing was recognised'
        )
    metric = _metric(lowercase)
    rows = np.zeros((len(hypotheses), COLUMNS), np.int64)
    for row, hypothesis, reference in zip(rows, hypotheses, references, strict=True):
        found = metric.corpus_score([hypothesis], [[reference]])
        row[:] = [found.sys_len, found.ref_len, *found.counts, *found.totals]
    return rows


def score(stats: Statistics, *, signature: str, resamples: int = 1000, seed: int = 0) -> Score:
    """Score a corpus with a bootstrap interval over its sentences.

    Args:
        stats: int64 [sentences, 10] of `statistics`.
        signature: From the function `signature`.
        resamples: Bootstrap resamples, at least 1.
        seed: Seed of the resampling.

    Returns:
        The corpus BLEU of sacrebleu and its 95 % percentile interval.

    Raises:
        ValueError: There are no sentences, or the statistics have another shape.
    """
    stats = _checked(stats, resamples)
    drawn = np.concatenate([_corpus_bleu(sums) for sums in _resampled([stats], resamples, seed)])
    lower, upper = np.percentile(drawn, (2.5, 97.5))
    return Score(_point(stats), (float(lower), float(upper)), signature, len(stats))


def point(stats: Statistics) -> float:
    """Return the corpus BLEU alone, 0 to 100, of int64 [sentences, 10].

    Raises:
        ValueError: There are no sentences, or the statistics have another shape.
    """
    return _point(_checked(stats, 1))


def signature(*, asr: str, vocoder: str, normaliser: str, lowercase: bool = True) -> str:
    """Say how a score comes about.

    Args:
        asr: Recogniser, its version and its decoding.
        vocoder: What turned units into audio.
        normaliser: Name of the normaliser of hypotheses and references.
        lowercase: What `statistics` was given.

    Returns:
        sacrebleu's own signature, followed by `|asr:…|vocoder:…|norm:…`.

    Raises:
        ValueError: A part is empty, which would make different scores look comparable.
    """
    parts = {"asr": asr, "vocoder": vocoder, "norm": normaliser}
    for name, value in parts.items():
        if not value:
            raise ValueError(f"signature: {name} is empty; name what was used")
    return "|".join(
        [text_signature(lowercase=lowercase), *(f"{name}:{value}" for name, value in parts.items())]
    )


@functools.cache
def text_signature(*, lowercase: bool = True) -> str:
    """Return sacrebleu's own signature: all there is to say of the BLEU of text."""
    metric = _metric(lowercase)
    metric.corpus_score(["a"], [["a"]])  # the signature knows its references only after a score
    return str(metric.get_signature())


def paired_bootstrap(
    stats_a: Statistics, stats_b: Statistics, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, tuple[float, float], float]:
    """Test whether two systems differ on the same sentences.

    Args:
        stats_a: int64 [sentences, 10] of one system.
        stats_b: The same of another system, sentence by sentence.
        resamples: Bootstrap resamples, at least 1.
        seed: Seed of the resampling.

    Returns:
        BLEU of a minus BLEU of b, its 95 % percentile interval, and the two-sided p-value: the
        share of resampled differences that are further from their mean than the difference is
        from 0 (bootstrap with the null imposed by a shift).

    Raises:
        ValueError: The two have no or different sentences, or another shape.
    """
    stats_a, stats_b = _checked(stats_a, resamples), _checked(stats_b, resamples)
    if len(stats_a) != len(stats_b) or np.any(stats_a[:, 1] != stats_b[:, 1]):
        raise ValueError("the two systems were scored on different sentences; score the same ones")
    both = np.concatenate(
        [
            _corpus_bleu(sums[:, :COLUMNS]) - _corpus_bleu(sums[:, COLUMNS:])
            for sums in _resampled([stats_a, stats_b], resamples, seed)
        ]
    )
    difference = _point(stats_a) - _point(stats_b)
    lower, upper = np.percentile(both, (2.5, 97.5))
    further = int(np.sum(np.abs(both - both.mean()) > abs(difference)))
    return difference, (float(lower), float(upper)), (further + 1) / (resamples + 1)


@functools.cache
def _metric(lowercase: bool) -> BLEU:
    # `force` only silences a warning about text that looks tokenised.
    return BLEU(lowercase=lowercase, tokenize="13a", smooth_method="exp", force=True)


def _checked(stats: Statistics, resamples: int) -> Statistics:
    if stats.ndim != 2 or stats.shape[1] != COLUMNS:
        raise ValueError(f"statistics have shape {stats.shape}; give [sentences, {COLUMNS}]")
    if not len(stats):
        raise ValueError("no sentences to score; give at least one row of statistics")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; give at least 1")
    return stats


def _point(stats: Statistics) -> float:
    sums = [int(value) for value in stats.sum(axis=0)]
    return BLEU.compute_bleu(
        correct=sums[2 : 2 + _ORDER],
        total=sums[2 + _ORDER :],
        sys_len=sums[0],
        ref_len=sums[1],
        smooth_method="exp",
    ).score


def _resampled(systems: list[Statistics], resamples: int, seed: int) -> Iterator[Scores]:
    """Yield sums of resampled sentences, [some resamples, 10 a system], the same for each system.

    How often a sentence is drawn is multinomial: a matrix product replaces the gather.
    """
    side_by_side = np.concatenate(systems, axis=1).astype(np.float64)
    sentences = len(side_by_side)
    rng = np.random.default_rng(seed)
    shares = np.full(sentences, 1.0 / sentences)
    at_once = max(1, _CHUNK // sentences)
    for first in range(0, resamples, at_once):
        drawn = rng.multinomial(sentences, shares, size=min(at_once, resamples - first))
        yield drawn.astype(np.float64) @ side_by_side


def _corpus_bleu(sums: Scores) -> Scores:
    """Score many corpora at once as sacrebleu does (smoothing `exp`): [n, 10] to [n]."""
    hypothesis, reference = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + _ORDER], sums[:, 2 + _ORDER :]
    defined = matches.any(axis=1) & (totals > 0).all(axis=1)
    # Every order without a match counts as half as much as the one before it.
    halvings = 2.0 ** np.cumsum(matches == 0, axis=1)
    counts = np.where(matches == 0, 1.0 / halvings, matches)
    precisions = 100.0 * counts / np.where(totals == 0, 1.0, totals)
    brevity = np.minimum(0.0, 1.0 - reference / np.where(hypothesis == 0, 1.0, hypothesis))
    return np.where(defined, np.exp(brevity + np.log(precisions).mean(axis=1)), 0.0)
