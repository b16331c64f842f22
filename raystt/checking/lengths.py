"""How long sentences are, and what interleaving really makes of a nominal ratio there.

The paper's rule draws whole spans and stops once the ratio is exceeded, so on short sentences more
words are text than the schedule says (paper, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from raystt import remote
from raystt.config import CorpusConfig
from raystt.corpus.card import SIDES, Card, SplitCard
from raystt.hub import read_config
from raystt.interleaving.rules import SOURCE, TARGET, Interleaving, thresholds
from raystt.speech import MFCC

Counts = npt.NDArray[np.int64]

SAMPLE = 4000
"""Sentences that the achieved ratio is simulated on; its standard error is below 0.005."""
_READ = 512  # sentences of a shard whose words are counted

# Until a corpus is prepared, by whether it is the embedded one; the others are taken to be as CVSS.
_WORDS = {True: 7.5, False: 10.0}  # a side
SECONDS = {True: (1.8, 1.8), False: (5.0, 4.0)}
"""Seconds of source and target speech."""
_SUBWORDS = {True: 1.0, False: 1.3}  # text tokens a word


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
        return source + target + self._rest(interleaving)

    def generated(self, interleaving: Interleaving) -> float:
        """Return the tokens of the model's own part, all speech: what a loss is on."""
        return self.target_units + self._rest(interleaving) - 2

    def _rest(self, interleaving: Interleaving) -> float:
        """Return <s>, separators and </s>, and the plain text in chain of thought."""
        if interleaving.format == "direct":
            return 3.0
        return 5.0 + (self.source_words + self.target_words) * self.tokens_a_word


def of(corpus: CorpusConfig, split: SplitCard | None) -> Lengths:
    """Return the mean lengths of a language: counted in its training split, or typical ones."""
    own = corpus.reader == "embedded"
    if split is not None and split.pairs:
        n = split.pairs
        source, target = split.source, split.target
        return Lengths(
            source.words / n, target.words / n, source.units / n, target.units / n, _SUBWORDS[own],
        )  # fmt: skip
    rate = _kept(corpus) / _frame(corpus)[0]
    source_seconds, target_seconds = SECONDS[own]
    return Lengths(
        _WORDS[own], _WORDS[own], source_seconds * rate, target_seconds * rate, _SUBWORDS[own]
    )


def frames(corpus: CorpusConfig, one: Lengths) -> float:
    """Return the frames of a pair, both sides, as the encoder gives them."""
    return (one.source_units + one.target_units) / _kept(corpus)


def basis(corpus: CorpusConfig, counted: bool) -> str:
    """Say in words what `of` gives."""
    if counted:
        return "sentence lengths counted in the corpus"
    own = corpus.reader == "embedded"
    source, target = SECONDS[own]
    seconds, assumed = _frame(corpus)
    kept = f", {_kept(corpus):.0%} left by deduplication" if _kept(corpus) < 1 else ""
    return (
        f"typical pairs of {_WORDS[own]:g} words a side, {source:g} s and {target:g} s at "
        f"{1 / seconds:.3g} units/s{assumed}{kept}, {_SUBWORDS[own]:g} tokens a word"
    )


def _frame(corpus: CorpusConfig) -> tuple[float, str]:
    """Return the seconds of a frame of the unit encoder, and a word if its config is not here."""
    if corpus.units.encoder in MFCC:
        return MFCC[corpus.units.encoder], ""
    data = read_config(corpus.units.encoder)
    try:  # as `speech.network.frame_length`
        if data["model_type"] == "wav2vec2-bert":
            return data["feature_projection_input_dim"] / 80 * 0.01, ""
        return prod(data["conv_stride"]) / 16000, ""
    except (KeyError, TypeError):
        return 0.02, " (assumed)"


def _kept(corpus: CorpusConfig) -> float:
    """Return the share of the units that is left where runs of equal ones are merged.

    Frames of `mfcc` are so long that hardly any two in a row are equal: 0.99 was measured, and of
    `mfcc_20ms` 0.73.
    """
    kept = {"mfcc": 1.0, "mfcc_20ms": 0.7}.get(corpus.units.encoder, 0.6)
    return kept if corpus.units.deduplicate else 1.0


def word_counts(corpus: CorpusConfig, card: Card | None, languages: Sequence[str]) -> Counts:
    """Return the words of sentences, int64 [sentences], both sides of all `languages`.

    They are counted in the first rows of each training split, or are the typical number.
    """
    typical = _WORDS[corpus.reader == "embedded"]
    words = np.array([math.floor(typical), math.ceil(typical)], np.int64)
    if card is None:
        return words
    # here and not above: a corpus that is not prepared needs no pyarrow, a third of a second
    import pyarrow.compute as pc

    from raystt.corpus.rows import column
    from raystt.corpus.shards import read

    counted = []
    columns = [column(side, "token_offsets") for side in SIDES]
    for shard in [shard for name in languages for shard in card.split(name, "train").shards[:1]]:
        table = read(remote.local(corpus.path) / shard.path, shard.rows, columns).slice(0, _READ)
        counted += [pc.list_value_length(table[c]).to_numpy() - 1 for c in columns]
    found = np.concatenate(counted).astype(np.int64) if counted else words
    return found[found > 0] if (found > 0).any() else words


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
    drawn = thresholds(
        Interleaving(rule="poisson", span_mean=span_mean),
        seed=1,
        keys=np.arange(SAMPLE // 2, dtype=np.uint64),
        epochs=np.zeros(SAMPLE // 2, np.int64),
        word_counts=np.resize(np.array(words, np.int64), SAMPLE),
        streams=(SOURCE, TARGET),
    )
    return np.sort(drawn)
