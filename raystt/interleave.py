"""Sequences of interleaved speech units and text, by word thresholds.

Every word of every utterance has a threshold in [0, 1), drawn from (seed, utterance, epoch, side)
and nothing else. It is text while the ratio in force is at least its threshold, and units
otherwise; at ratio 0 nothing is text. So a falling ratio only ever turns text into speech, and the
tokens do not depend on the batch, the world size, the order of arrival or a resume.

Two rules draw the thresholds. `independent`: uniform. `poisson`: spans of words as in Algorithm 1
of arXiv 2506.10299. The algorithm goes on drawing spans while the fraction of words taken is at
most the ratio, hence a word is text iff the fraction taken before its span is: that fraction is
its threshold. The achieved ratio overshoots the nominal one, and is returned with the sequences.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raystt.thresholds import SOURCE, TARGET, Floats, Interleaving, Keys, Offsets, thresholds

Bools = npt.NDArray[np.bool_]
Tokens = npt.NDArray[np.int32]

IGNORED = -100  # label of a token that is not to be predicted, as torch's cross entropy wants it


@dataclass(frozen=True)
class Layout:
    """Name the token ids that frame a sequence.

    Attributes:
        bos: First token of a sequence.
        separator: Token between two streams.
        eos: Last token of a sequence.
    """

    bos: int
    separator: int
    eos: int


@dataclass(frozen=True, eq=False)
class Side:
    """Hold the source or the target of a batch: ragged arrays of vocabulary ids.

    Attributes:
        text: int32 [text tokens].
        text_offsets: int64 [words + 1]; word w is `text[text_offsets[w]:text_offsets[w + 1]]`.
        units: int32 [units], token ids already.
        unit_offsets: int64 [words + 1], the same for `units`.
        word_offsets: int64 [utterances + 1]; utterance u has the words
            `word_offsets[u]..word_offsets[u + 1] - 1`. An utterance may have no words.

    Raises:
        ValueError: An offset array does not start at 0, falls, or ends elsewhere than its data.
    """

    text: Tokens
    text_offsets: Offsets
    units: Tokens
    unit_offsets: Offsets
    word_offsets: Offsets

    def __post_init__(self) -> None:
        if len(self.text_offsets) != len(self.unit_offsets):
            raise ValueError(
                f"text_offsets has {len(self.text_offsets) - 1} words, unit_offsets "
                f"{len(self.unit_offsets) - 1}; give one text and one unit span for each word"
            )
        for name, offsets, size in (
            ("text_offsets", self.text_offsets, len(self.text)),
            ("unit_offsets", self.unit_offsets, len(self.units)),
            ("word_offsets", self.word_offsets, len(self.text_offsets) - 1),
        ):
            if not len(offsets) or offsets[0] != 0 or offsets[-1] != size:
                raise ValueError(f"{name} must start at 0 and end at {size}, the length it divides")
            if np.any(offsets[1:] < offsets[:-1]):
                raise ValueError(f"{name} falls; offsets must be in order")

    @property
    def word_counts(self) -> Offsets:
        """Return the number of words of each utterance, int64 [utterances]."""
        return np.diff(self.word_offsets)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Hold what a model is given to continue.

    Attributes:
        tokens: int32 [total].
        offsets: int64 [utterances + 1].
    """

    tokens: Tokens
    offsets: Offsets


@dataclass(frozen=True, eq=False)
class Sequences:
    """Hold the training sequences of a batch and the text ratio achieved in them.

    Attributes:
        tokens: int32 [total].
        labels: int64 [total], the token where it is to be predicted, -100 elsewhere; not shifted.
        offsets: int64 [utterances + 1].
        words_text: Words that became text, in both interleaved streams together.
        words_total: Words of both interleaved streams.
        tokens_text: Text tokens of both interleaved streams.
        tokens_total: Tokens of both interleaved streams; framing and plain text do not count.
    """

    tokens: Tokens
    labels: npt.NDArray[np.int64]
    offsets: Offsets
    words_text: int
    words_total: int
    tokens_text: int
    tokens_total: int

    @property
    def achieved_words(self) -> float:
        """Return the share of words that is text, in [0, 1]; 0.0 of no words."""
        return self.words_text / self.words_total if self.words_total else 0.0

    @property
    def achieved_tokens(self) -> float:
        """Return the share of tokens that is text, in [0, 1]; 0.0 of no tokens."""
        return self.tokens_text / self.tokens_total if self.tokens_total else 0.0


def interleave(
    source: Side,
    target: Side,
    ratio: float,
    *,
    keys: Keys,
    epochs: Offsets,
    seed: int,
    interleaving: Interleaving,
    layout: Layout,
) -> Sequences:
    """Build the training sequences of a batch.

    `direct` gives `<s> I_src <sep> I_tgt </s>` with the loss on I_tgt and `</s>`;
    `chain_of_thought` gives `<s> I_src <sep> T_src <sep> T_tgt <sep> I_tgt </s>` with the loss on
    everything after the first separator.

    Args:
        source: Source side of the batch.
        target: Target side of the same utterances.
        ratio: Nominal text ratio in [0, 1]; 0 is pure speech, 1 is pure text.
        keys: uint64 [utterances], from `utterance_key`.
        epochs: int64 [utterances], how often each utterance was seen before.
        seed: Seed of the run.
        interleaving: Rule, side and format.
        layout: Framing tokens.

    Returns:
        The sequences and the counts of what became text.

    Raises:
        ValueError: The ratio is outside [0, 1], or the arguments differ in their utterances.
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"ratio is {ratio}; give a share of words in [0, 1]")
    sizes = {
        "source": len(source.word_offsets) - 1,
        "target": len(target.word_offsets) - 1,
        "keys": len(keys),
        "epochs": len(epochs),
    }
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"utterances differ ({counts}); pass the same ones to all four")

    draw = functools.partial(thresholds, interleaving, seed=seed, keys=keys, epochs=epochs)
    source_text, target_text = _choose((source, target), ratio, draw, interleaving.side)
    speech_in, speech_out = _mixed(source, source_text), _mixed(target, target_text)
    utterances = sizes["source"]
    separator = _mark(layout.separator, utterances)
    context = [_mark(layout.bos, utterances), speech_in, separator]
    learned = [speech_out, _mark(layout.eos, utterances)]
    if interleaving.format == "chain_of_thought":
        learned = [_plain(source), separator, _plain(target), separator, *learned]

    tokens, offsets, lengths = _assemble(context + learned)
    predicted = np.repeat([[False] * len(context) + [True] * len(learned)], utterances, axis=0)
    labels = np.where(np.repeat(predicted, lengths), tokens.astype(np.int64), IGNORED)
    return Sequences(
        tokens=tokens,
        labels=labels,
        offsets=offsets,
        words_text=int(source_text.sum() + target_text.sum()),
        words_total=len(source_text) + len(target_text),
        tokens_text=_text_tokens(source, source_text) + _text_tokens(target, target_text),
        tokens_total=len(speech_in.tokens) + len(speech_out.tokens),
    )


def prompt(source: Side, layout: Layout, interleaving: Interleaving) -> Prompts:
    """Build what a model is given to translate a batch: `<s> I_src <sep>`, pure speech.

    Args:
        source: Source side; only its units are read.
        layout: Framing tokens.
        interleaving: Format of the run. Both formats open alike; they differ in what the model
            goes on to write.

    Returns:
        One prompt an utterance.
    """
    speech = _mixed(source, np.zeros(int(source.word_offsets[-1]), dtype=np.bool_))
    utterances = len(source.word_offsets) - 1
    marks = _mark(layout.bos, utterances), _mark(layout.separator, utterances)
    tokens, offsets, _ = _assemble([marks[0], speech, marks[1]])
    return Prompts(tokens, offsets)


def _choose(
    sides: tuple[Side, Side], ratio: float, draw: Callable[..., Floats], interleaved: str
) -> tuple[Bools, Bools]:
    """Say which words of the source and of the target are text, bool [words] each.

    Both sides are drawn in one pass, as twice as many utterances.
    """
    words = len(sides[0].text_offsets) - 1, len(sides[1].text_offsets) - 1
    if ratio == 0.0:
        return np.zeros(words[0], np.bool_), np.zeros(words[1], np.bool_)
    counts = np.concatenate([side.word_counts for side in sides])
    is_text = draw(word_counts=counts, streams=(SOURCE, TARGET)) <= ratio
    if interleaved != "both":
        speech = slice(words[0], None) if interleaved == "source" else slice(words[0])
        is_text[speech] = False
    return is_text[: words[0]], is_text[words[0] :]


class _Stream(NamedTuple):
    """One part of every sequence: tokens int32 [total] and their count int64 [utterances]."""

    tokens: Tokens
    lengths: Offsets


def _mark(token: int, utterances: int) -> _Stream:
    return _Stream(np.full(utterances, token, np.int32), np.ones(utterances, np.int64))


def _plain(side: Side) -> _Stream:
    return _Stream(side.text, np.diff(side.text_offsets[side.word_offsets]))


def _mixed(side: Side, as_text: Bools) -> _Stream:
    """Take the text of the chosen words and the units of the others, in order."""
    pool = np.concatenate((side.text, side.units))
    starts = np.where(as_text, side.text_offsets[:-1], side.unit_offsets[:-1] + len(side.text))
    lengths = np.where(as_text, np.diff(side.text_offsets), np.diff(side.unit_offsets))
    ends = np.concatenate(([0], np.cumsum(lengths)))
    return _Stream(pool[_ranges(starts, lengths)], np.diff(ends[side.word_offsets]))


def _text_tokens(side: Side, as_text: Bools) -> int:
    return int(np.diff(side.text_offsets)[as_text].sum())


def _assemble(streams: list[_Stream]) -> tuple[Tokens, Offsets, Offsets]:
    """Join the streams of each utterance.

    Returns:
        Tokens int32 [total]; offsets int64 [utterances + 1]; the length of every stream of every
        utterance in the order of the tokens, int64 [utterances * streams].
    """
    lengths = np.array([stream.lengths for stream in streams])  # [streams, utterances]
    starts = np.cumsum(lengths).reshape(lengths.shape) - lengths  # in the concatenated streams
    pool = np.concatenate([stream.tokens for stream in streams])
    offsets = np.concatenate(([0], np.cumsum(lengths.sum(axis=0))))
    ordered = lengths.T.ravel()
    return pool[_ranges(starts.T.ravel(), ordered)], offsets, ordered


def _ranges(starts: Offsets, lengths: Offsets) -> Offsets:
    """Concatenate start..start + length - 1 of every pair: the indices of a ragged gather."""
    before = np.cumsum(lengths) - lengths
    indices: Offsets = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return indices
