"""How long sentences are, and what interleaving really makes of a nominal ratio there.

The paper's rule draws whole spans and stops once the ratio is exceeded, so on short sentences more
words are text than the schedule says (paper, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raystt.config.corpus import CorpusConfig
from raystt.corpus.card import SIDES, Card, SplitCard
from raystt.interleaving.rules import SOURCE, TARGET, Interleaving, thresholds

Counts = npt.NDArray[np.int64]

SAMPLE = 4000
"""Sentences that the achieved ratio is simulated on; its standard error is below 0.005."""
SUBWORDS = 1.3
"""Text tokens a word of a pretrained tokenizer; the embedded corpus has one a word."""
_READ = 512  # sentences of a shard whose words are counted
_SEED = 1

# Until a corpus is prepared: a pair of the embedded corpus, both sides together, and sentences
# such as those of CVSS.
_EMBEDDED_UNITS, _EMBEDDED_WORDS = 85.0, 15.0
_SENTENCE_WORDS, _SOURCE_SECONDS, _TARGET_SECONDS = 10.0, 5.0, 4.0
_UNITS_A_SECOND = 50.0
_KEPT = 0.6  # of the units where runs of equal ones are merged

_PAPER_HOURS = {"fr": 180, "de": 119, "es": 97, "ca": 81, "it": 28, "ru": 16, "pt": 7}


@dataclass(frozen=True)
class Lengths:
    """Means over the sentence pairs of a language; units are what the model reads."""

    source_words: float
    target_words: float
    source_units: float
    target_units: float
    tokens_a_word: float

    def tokens(self, interleaving: Interleaving, ratio: float) -> float:
        """Return the tokens of a pair of which the share `ratio` of the words is text.

        Modality tokens are left out: they are two a span at most.
        """
        source, target = self.source_units, self.target_units
        if interleaving.replacement == "text":  # a mask stands for each unit
            if interleaving.side != "target":
                source += ratio * (self.source_words * self.tokens_a_word - source)
            if interleaving.side != "source":
                target += ratio * (self.target_words * self.tokens_a_word - target)
        return source + target + self.text_tokens(interleaving) + _framing(interleaving)

    def text_tokens(self, interleaving: Interleaving) -> float:
        """Return the tokens of the plain text in chain of thought, both sides."""
        if interleaving.format == "direct":
            return 0.0
        return (self.source_words + self.target_words) * self.tokens_a_word

    def generated(self, interleaving: Interleaving) -> float:
        """Return the tokens of the model's own part, all speech: what a loss is on."""
        return self.target_units + self.text_tokens(interleaving) + _framing(interleaving) - 2


def _framing(interleaving: Interleaving) -> int:
    # <s>, one separator or three, </s>
    return 3 if interleaving.format == "direct" else 5


def lengths(corpus: CorpusConfig, split: SplitCard | None) -> Lengths:
    """Return the mean lengths of a language: counted in its training split, or typical ones."""
    tokens_a_word = 1.0 if corpus.reader == "embedded" else SUBWORDS
    if split is not None:
        n = split.pairs
        source, target = ((side.words / n, side.units / n) for side in (split.source, split.target))
    elif corpus.reader == "embedded":
        source = target = (_EMBEDDED_WORDS / 2, _EMBEDDED_UNITS / 2)
    else:
        rate = _UNITS_A_SECOND * (_KEPT if corpus.units.deduplicate else 1.0)
        source = (_SENTENCE_WORDS, rate * _SOURCE_SECONDS)
        target = (_SENTENCE_WORDS, rate * _TARGET_SECONDS)
    return Lengths(
        source_words=source[0],
        target_words=target[0],
        source_units=source[1],
        target_units=target[1],
        tokens_a_word=tokens_a_word,
    )


def lengths_basis(corpus: CorpusConfig, counted: bool) -> str:
    """Say in words what `lengths` are."""
    if counted:
        return "sentence lengths counted in the corpus"
    if corpus.reader == "embedded":
        return f"typical pairs of {_EMBEDDED_UNITS:g} units and {_EMBEDDED_WORDS:g} words"
    kept = f", {_KEPT:.0%} left by deduplication" if corpus.units.deduplicate else ""
    return (
        f"typical pairs of {_SENTENCE_WORDS:g} words a side, {_SOURCE_SECONDS:g} s and "
        f"{_TARGET_SECONDS:g} s at {_UNITS_A_SECOND:g} units/s{kept}, {SUBWORDS:g} tokens a word"
    )


def guessed_pairs(corpus: CorpusConfig, language: str) -> int | None:
    """Guess the training pairs of a language of CVSS-C from the hours that the paper states."""
    if corpus.reader != "cvss" or language not in _PAPER_HOURS:
        return None
    return round(_PAPER_HOURS[language] * 3600 / _SOURCE_SECONDS)


def word_counts(corpus: CorpusConfig, card: Card | None, languages: Sequence[str]) -> Counts:
    """Return the words of sentences, int64 [sentences], both sides of all `languages`.

    They are counted in the first rows of each training split, or are the typical number.
    """
    if card is None:
        typical = _EMBEDDED_WORDS / 2 if corpus.reader == "embedded" else _SENTENCE_WORDS
        return np.array([math.floor(typical), math.ceil(typical)], np.int64)
    # here and not above: a corpus that is not prepared needs no pyarrow, a third of a second
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from raystt.corpus.shards import column

    counted = []
    for language in languages:
        for shard in card.split(language, "train").shards[:1]:
            columns = [column(side, "token_offsets") for side in SIDES]
            file = pq.ParquetFile(Path(corpus.path) / shard.path)
            for batch in file.iter_batches(batch_size=_READ, columns=columns):
                counted += [pc.list_value_length(batch.column(c)).to_numpy() - 1 for c in columns]
                break
    words = np.concatenate(counted).astype(np.int64) if counted else np.array([], np.int64)
    words = words[words > 0]
    return words if len(words) else word_counts(corpus, None, languages)


def achieved(
    interleaving: Interleaving, words: Counts, ratios: Sequence[float]
) -> tuple[float, ...]:
    """Return the share of the words that is text at each nominal ratio.

    Args:
        interleaving: Its `rule` and `span_mean` decide.
        words: int64 [sentences], see `word_counts`; repeated until `SAMPLE` sentences are drawn.
        ratios: Nominal ratios in [0, 1].
    """
    if interleaving.rule == "independent":
        return tuple(ratios)  # each word is text with this probability
    drawn = _thresholds(interleaving.span_mean, tuple(words.tolist()))
    # A word is text where its threshold is at most the ratio, but at 0 none is.
    text = np.searchsorted(drawn, np.asarray(ratios, np.float64), side="right") / len(drawn)
    return tuple(np.where(np.asarray(ratios) > 0, text, 0.0).tolist())


@lru_cache(maxsize=64)
def _thresholds(span_mean: float, words: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the thresholds of all words of the sample in ascending order."""
    counts = np.resize(np.array(words, np.int64), SAMPLE)
    drawn = thresholds(
        Interleaving(rule="poisson", span_mean=span_mean),
        seed=_SEED,
        keys=np.arange(SAMPLE // 2, dtype=np.uint64),
        epochs=np.zeros(SAMPLE // 2, np.int64),
        word_counts=counts,
        streams=(SOURCE, TARGET),
    )
    return np.sort(drawn)
