"""BLEU and chrF of transcribed speech from additive statistics of sentences, through sacrebleu.

A sentence gives a row of integers. Rows are added over sentences, shards and actors before anything
is scored: an average of the scores of shards is no score. A score is never separated from its
signature, which says how speech became text as well as how text became a number.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

Statistics = npt.NDArray[np.int64]
Interval = tuple[float, float]


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
    ci: Interval
    signature: str
    sentences: int


class Metric:
    """BLEU or chrF of corpora, 0 to 100; get one from `bleu` or `chrf`.

    Attributes:
        columns: Integers that the metric counts in a sentence, in sacrebleu's order; the one in
            column 1 is the length of the reference.
        signature: sacrebleu's own: all there is to say of a score of text.
    """

    def __init__(self, metric: Any) -> None:
        """Wrap a metric of sacrebleu.

        Its public calls give no statistics; tests compare what comes of these with what it gives.
        """
        self._metric = metric
        # The signature knows how many references there are only once it has seen some.
        (counts,) = metric._extract_corpus_statistics(["a"], [["a"]])
        self.columns = len(counts)
        self.signature = str(metric.get_signature())

    def sign(self, *, asr: str, vocoder: str, normaliser: str) -> str:
        """Say how a score of speech comes about.

        Args:
            asr: Recogniser, its version and its decoding.
            vocoder: What turned units into audio.
            normaliser: Name of the normaliser of hypotheses and references.

        Returns:
            sacrebleu's own signature, followed by `|asr:…|vocoder:…|norm:…`.

        Raises:
            ValueError: A part is empty, which would make different scores look comparable.
        """
        parts = {"asr": asr, "vocoder": vocoder, "norm": normaliser}
        for name, value in parts.items():
            if not value:
                raise ValueError(f"signature: {name} is empty; name what was used")
        return "|".join([self.signature, *(f"{name}:{value}" for name, value in parts.items())])

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
        """Count what the metric needs of every sentence.

        Args:
            hypotheses: Transcripts, normalised; an empty one is legal and matches nothing.
            references: One reference a hypothesis, normalised.

        Returns:
            int64 [sentences, columns]; rows may be concatenated and summed.

        Raises:
            ValueError: The two lists differ in length.
        """
        if len(hypotheses) != len(references):
            raise ValueError(
                f"{len(hypotheses)} hypotheses for {len(references)} references; "
                'give one of each a sentence, and "" where nothing was recognised'
            )
        rows = self._metric._extract_corpus_statistics(hypotheses, [references])
        return np.array(rows, np.int64).reshape(-1, self.columns)

    def point(self, stats: Statistics) -> float:
        """Return the score of a corpus alone, of int64 [sentences, columns].

        Raises:
            ValueError: There are no sentences, or the statistics have another shape.
        """
        return self._score(self._checked(stats).sum(axis=0))

    def score(
        self, stats: Statistics, *, resamples: int = 1000, seed: int = 0
    ) -> tuple[float, Interval]:
        """Return the score of a corpus and its 95 % bootstrap interval over sentences.

        Raises:
            ValueError: There are no sentences, or the statistics have another shape.
        """
        drawn = self._resampled(self._checked(stats), resamples, seed)
        return self.point(stats), _interval([self._score(sums) for sums in drawn])

    def compare(
        self, stats_a: Statistics, stats_b: Statistics, *, resamples: int = 1000, seed: int = 0
    ) -> tuple[float, Interval, float]:
        """Test whether two systems differ on the same sentences.

        Args:
            stats_a: int64 [sentences, columns] of one system.
            stats_b: The same of another system, sentence by sentence.
            resamples: Bootstrap resamples, at least 1.
            seed: Seed of the resampling.

        Returns:
            Score of a minus score of b, its 95 % percentile interval, and the two-sided p-value:
            the share of resampled differences that are as far from their mean as the difference is
            from 0 (bootstrap with the null imposed by a shift).

        Raises:
            ValueError: The two have no or different sentences, or another shape.
        """
        stats_a, stats_b = self._checked(stats_a), self._checked(stats_b)
        if len(stats_a) != len(stats_b) or np.any(stats_a[:, 1] != stats_b[:, 1]):
            raise ValueError(
                "the two systems were scored on different sentences; score the same ones"
            )
        both = np.array(
            [
                self._score(sums[: self.columns]) - self._score(sums[self.columns :])
                for sums in self._resampled(np.hstack([stats_a, stats_b]), resamples, seed)
            ]
        )
        difference = self.point(stats_a) - self.point(stats_b)
        further = int(np.sum(np.abs(both - both.mean()) >= abs(difference)))
        return difference, _interval(both), (further + 1) / (resamples + 1)

    def mean_of_runs(
        self, runs: Sequence[Statistics], *, resamples: int = 1000
    ) -> tuple[float, Interval]:
        """Return the mean score of one system trained on several seeds, and its interval.

        Args:
            runs: int64 [sentences, columns] a seed.
            resamples: Bootstrap resamples, at least 1.

        Raises:
            ValueError: The runs have no or different sentences, or another shape.
        """
        mean, (low, high), _ = self._over_seeds(runs, len(runs), resamples)
        return mean, (max(low, 0.0), min(high, 100.0))

    def compare_runs(
        self, runs_a: Sequence[Statistics], runs_b: Sequence[Statistics], *, resamples: int = 1000
    ) -> tuple[float, Interval, float]:
        """Test whether two systems differ, each trained on the same seeds.

        Args:
            runs_a: int64 [sentences, columns] a seed of one system.
            runs_b: The same of another, seed by seed and sentence by sentence.
            resamples: Bootstrap resamples, at least 1.

        Returns:
            Mean over the seeds of the score of a minus that of b, its 95 % interval, and the
            two-sided p-value that it is 0.

        Raises:
            ValueError: The runs have no or different sentences, or another shape.
        """
        if len(runs_a) != len(runs_b):
            raise ValueError(f"{len(runs_a)} seeds against {len(runs_b)}; give the same ones")
        return self._over_seeds([*runs_a, *runs_b], len(runs_a), resamples)

    def _over_seeds(
        self, runs: Sequence[Statistics], seeds: int, resamples: int
    ) -> tuple[float, Interval, float]:
        """Return the mean of the first `seeds` runs, minus that of others, its interval, and p.

        The variance is that of a hierarchical bootstrap over seeds, and over sentences, which all
        runs share. That of the seeds is known from few of them, and so the tails are Student's, at
        Satterthwaite's degrees of freedom. One seed says nothing of seeds: its interval is over
        sentences alone.

        What a seed does to both systems alike cancels in their differences, seed by seed. But two
        differences may agree by chance, and would then be believed: of two seeds each system's own
        spread counts (Welch 1947), which is wider where seeds do have something in common.
        """
        # Imported late: it takes half a second, and few score over seeds.
        from scipy.special import stdtr, stdtrit

        checked = [self._checked(stats) for stats in runs]
        if any(len(s) != len(checked[0]) or np.any(s[:, 1] != checked[0][:, 1]) for s in checked):
            raise ValueError("the runs were scored on different sentences; score the same ones")
        sign = np.repeat([1.0, -1.0], [seeds, len(checked) - seeds])

        def by_seed(scores: list[float]) -> npt.NDArray[np.float64]:
            """Return scores as [1, seeds] of the differences, or of each system [2, seeds]."""
            values: npt.NDArray[np.float64] = (np.array(scores) * sign).reshape(-1, seeds)
            return values if seeds == 2 else np.sum(values, axis=0, keepdims=True)

        rng, found = np.random.default_rng(1), []
        # The mean of n values that were drawn from n varies by a share of (n - 1) / n too little,
        # half of it at two seeds.
        wider = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
        for sums in self._resampled(np.hstack(checked), resamples, 0):
            values = by_seed([self._score(one) for one in sums.reshape(-1, self.columns)])
            drawn = rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=len(values))
            found.append(np.sum(values * (1.0 + wider * (drawn - 1.0))) / seeds)
        points = by_seed([self.point(stats) for stats in checked])
        mean, error = float(points.sum()) / seeds, float(np.std(found))
        of_seeds = points.var(axis=1, ddof=1) / seeds if seeds > 1 else np.zeros(1)
        freedom = np.inf
        if of_seeds.any():
            variance = max(error**2, float(of_seeds.sum()))
            freedom = (seeds - 1) * variance**2 / float(np.sum(of_seeds**2))
        reach = float(stdtrit(freedom, 0.975)) * error
        # Without a spread, as of a single resample, nothing is shown.
        p = 2.0 * float(stdtr(freedom, -abs(mean) / error)) if error else 1.0
        return mean, (mean - reach, mean + reach), p

    def _checked(self, stats: Statistics) -> Statistics:
        if stats.ndim != 2 or stats.shape[1] != self.columns:
            raise ValueError(
                f"statistics have shape {stats.shape}; give [sentences, {self.columns}]"
            )
        if not len(stats):
            raise ValueError("no sentences to score; give at least one row of statistics")
        return stats

    def _score(self, sums: Statistics) -> float:
        return float(self._metric._compute_score_from_stats(sums.tolist()).score)

    @staticmethod
    def _resampled(stats: Statistics, resamples: int, seed: int) -> Iterator[Statistics]:
        """Yield the sums of resampled sentences, one resample at a time.

        How often a sentence is drawn is multinomial: a product replaces the gather.
        """
        if resamples < 1:
            raise ValueError(f"resamples is {resamples}; give at least 1")
        rng = np.random.default_rng(seed)
        shares = np.full(len(stats), 1.0 / len(stats))
        for _ in range(resamples):
            yield rng.multinomial(len(stats), shares) @ stats


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for how many there are, by Holm's step-down method."""
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = highest
    return adjusted


@functools.cache
def bleu(*, lowercase: bool = True) -> Metric:
    """Return corpus BLEU; `lowercase` tells whether case counts for nothing (`case:lc`) or counts.

    Its columns: lengths of hypothesis and reference, matching n-grams of order 1 to 4, n-grams of
    the hypothesis of order 1 to 4.
    """
    # `force` only silences a warning about text that looks tokenised.
    return Metric(BLEU(lowercase=lowercase, tokenize="13a", smooth_method="exp", force=True))


@functools.cache
def chrf(*, lowercase: bool = True) -> Metric:
    """Return corpus chrF, which forgives a wrong ending that costs BLEU four n-grams.

    Its columns: n-grams of hypothesis, of reference and in both, of each order from 1 to 6.
    """
    return Metric(CHRF(lowercase=lowercase))


def asr_bleu(stats: Statistics, *, signature: str, resamples: int = 1000, seed: int = 0) -> Score:
    """Score a corpus of recognised speech.

    Args:
        stats: int64 [sentences, 10] of `bleu`.
        signature: From `Metric.sign`.
        resamples: Bootstrap resamples, at least 1.
        seed: Seed of the resampling.

    Raises:
        ValueError: There are no sentences, or the statistics have another shape.
    """
    point, interval = bleu().score(stats, resamples=resamples, seed=seed)
    return Score(point, interval, signature, len(stats))


def _interval(drawn: Sequence[float] | npt.NDArray[np.float64]) -> Interval:
    lower, upper = np.percentile(drawn, (2.5, 97.5))
    return float(lower), float(upper)


def sentence_bleu(stats: Statistics) -> float:
    """Return BLEU of one sentence, of its row of `bleu().statistics`, int64 `[10]`.

    Orders of n-grams that it is too short for do not count: a corpus' BLEU would give a perfect
    sentence of three words 0.
    """
    said, meant = stats[:2].tolist()
    right, total = stats[2:].reshape(2, 4).tolist()
    found = BLEU.compute_bleu(right, total, said, meant, smooth_method="exp", effective_order=True)
    return float(found.score)
