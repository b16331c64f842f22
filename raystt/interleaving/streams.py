"""The streams that sequences are made of, as ragged arrays without loops over words.

Vocabulary ids of a batch's source or target (`Side`) -> streams (`mark`, `plain`, `mixed`), one of
each an utterance -> sequences (`joined`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raystt.interleaving.rules import Interleaving, Offsets

Bools = npt.NDArray[np.bool_]
Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Layout:
    """Name the token ids that frame a sequence.

    Attributes:
        bos: First token of a sequence.
        separator: Token between two streams.
        eos: Last token of a sequence.
        mask: Token in the place of a unit, of `replacement: mask`.
        speech: Token before a run of speech, of `modality_tokens`.
        text: Token before a run of text, of `modality_tokens`.
    """

    bos: int
    separator: int
    eos: int
    mask: int
    speech: int
    text: int


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

    @classmethod
    def from_words(
        cls, utterances: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]]
    ) -> Side:
        """Build a side from plain lists.

        Args:
            utterances: The words of each, in order; a word is its text tokens and its units, both
                as vocabulary ids. Either may be empty.
        """
        words = [word for utterance in utterances for word in utterance]

        def ragged(parts: Sequence[Sequence[int]]) -> tuple[Tokens, Offsets]:
            tokens = np.array([token for part in parts for token in part], np.int32)
            return tokens, np.cumsum([0, *map(len, parts)], dtype=np.int64)

        _, word_offsets = ragged([range(len(utterance)) for utterance in utterances])
        return cls(
            *ragged([text for text, _ in words]),
            *ragged([units for _, units in words]),
            word_offsets,
        )

    @property
    def word_counts(self) -> Offsets:
        """Return the number of words of each utterance, int64 [utterances]."""
        return np.diff(self.word_offsets)


class Stream(NamedTuple):
    """One part of every sequence: tokens int32 [total] and their count int64 [utterances]."""

    tokens: Tokens
    lengths: Offsets


def mark(token: int, utterances: int) -> Stream:
    """Give every utterance one framing token."""
    return Stream(np.full(utterances, token, np.int32), np.ones(utterances, np.int64))


def plain(side: Side, interleaving: Interleaving, layout: Layout) -> Stream:
    """Take the whole text of a side."""
    stream = Stream(side.text, np.diff(side.text_offsets[side.word_offsets]))
    if interleaving.modality_tokens:
        return _announced(stream, np.ones(len(side.text), np.bool_), layout)
    return stream


def mixed(
    side: Side, chosen: Bools, interleaving: Interleaving, layout: Layout
) -> tuple[Stream, Offsets]:
    """Take the replacement of the chosen words and the units of the others, in order.

    Args:
        side: Source or target.
        chosen: bool [words], the words to replace.
        interleaving: What replaces them, which units are theirs, and whether runs are announced.
        layout: Tokens of masks and modalities.

    Returns:
        The stream, and of each utterance how many words and tokens took the place of units, and how
        many there are without framing, int64 [utterances, 4]: words replaced, words, tokens
        replaced, tokens.
    """
    masked = interleaving.replacement == "mask"
    unit_offsets = side.unit_offsets if interleaving.alignment == "words" else _equal_spans(side)
    as_text = np.zeros_like(chosen) if masked else chosen
    pool = np.concatenate((side.text, side.units))
    starts = np.where(as_text, side.text_offsets[:-1], unit_offsets[:-1] + len(side.text))
    lengths = np.where(as_text, np.diff(side.text_offsets), np.diff(unit_offsets))
    ends = np.concatenate(([0], np.cumsum(lengths)))
    tokens = pool[_ranges(starts, lengths)]
    if masked:
        tokens[np.repeat(chosen, lengths)] = layout.mask
    stream = Stream(tokens, np.diff(ends[side.word_offsets]))
    counts = [_sums(chosen, side), side.word_counts, _sums(lengths * chosen, side), stream.lengths]
    if interleaving.modality_tokens:
        stream = _announced(stream, np.repeat(as_text, lengths), layout)
    return stream, np.stack(counts, axis=1)


def _sums(values: npt.NDArray[Any], side: Side) -> Offsets:
    """Add up what there is of each word over the words of each utterance."""
    return np.diff(np.concatenate(([0], np.cumsum(values)))[side.word_offsets])


def _equal_spans(side: Side) -> Offsets:
    """Divide the units of each utterance among its words evenly, int64 [words + 1].

    Word k of W begins at unit floor(k U / W) of U.
    """
    counts = side.word_counts
    borders = side.unit_offsets[side.word_offsets]
    numbers = np.arange(int(counts.sum())) - np.repeat(side.word_offsets[:-1], counts)
    shares = numbers * np.repeat(np.diff(borders), counts) // np.repeat(counts, counts)
    return np.append(np.repeat(borders[:-1], counts) + shares, borders[-1])


def _announced(stream: Stream, is_text: Bools, layout: Layout) -> Stream:
    """Put a modality token before every run of text and of speech; `is_text` is bool [tokens].

    Words without tokens are not seen here, so they end no run, and an empty stream stays empty.
    """
    ends = np.cumsum(stream.lengths)
    begins = np.ones(len(is_text), np.bool_)
    begins[1:] = is_text[1:] != is_text[:-1]
    begins[(ends - stream.lengths)[stream.lengths > 0]] = True
    places = np.flatnonzero(begins)
    names = np.where(is_text[places], layout.text, layout.speech).astype(np.int32)
    runs = np.diff(np.searchsorted(places, ends), prepend=0)
    return stream._replace(
        tokens=np.insert(stream.tokens, places, names), lengths=stream.lengths + runs
    )


def joined(streams: list[Stream]) -> tuple[Tokens, Offsets, Offsets]:
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
