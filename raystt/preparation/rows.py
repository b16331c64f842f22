"""Rows of shards: words to tokens, frames to units, and which belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.compute as pc

from raystt.config import CorpusConfig
from raystt.corpus.card import (
    SIDES,
    CodebookCard,
    ShardEntry,
    SideCard,
    SideName,
    SplitCard,
    UnitsCard,
)
from raystt.corpus.rows import Row, RowSide, column
from raystt.corpus.shards import read
from raystt.readers.utterance import Utterance
from raystt.speech import MFCC
from raystt.speech.alignment import Marks, align
from raystt.speech.units import deduplicate


class Tokenizer(Protocol):
    """What rows need of a text tokenizer."""

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """Return token ids, and the tokens of each word as offsets [words + 1]."""
        ...


class RowError(ValueError):
    """An utterance that cannot become a row; the text is the reason."""


@dataclass(frozen=True)
class Heard:
    """What encoder and aligner made of one recording.

    Attributes:
        frames: int64 [frames], cluster of each frame.
        marks: where its words start; None if it could not be aligned.
        seconds: its length.
    """

    frames: np.ndarray
    marks: Marks | None
    seconds: float


def units_card(config: CorpusConfig, frame_seconds: float) -> UnitsCard:
    """Describe the codebooks: units of the target follow those of the source, or are the same."""
    source = CodebookCard("units/source.safetensors", config.units.source, 0)
    target = source
    if config.units.target is not None:
        target = CodebookCard("units/target.safetensors", config.units.target, source.clusters)
    return UnitsCard(
        total=target.offset + target.clusters,
        frame_seconds=frame_seconds,
        deduplicated=config.units.deduplicate,
        encoder=config.units.encoder,
        source=source,
        target=target,
    )


def encoder_name(config: CorpusConfig) -> str:
    """Return the name of the unit encoder with its layer, as codebooks carry it."""
    from raystt.speech import encoders

    if config.units.encoder in MFCC:
        return config.units.encoder
    finetuned = config.finetune is not None
    return encoders.encoder_name(config.units.encoder, config.units.layer, finetuned=finetuned)


def row(
    utterance: Utterance, heard: dict[str, Heard], tokenizer: Tokenizer, units: UnitsCard
) -> Row:
    """Build the row of an utterance.

    Args:
        utterance: its texts; a source without text is one group without a token.
        heard: both sides' frames and marks.
        tokenizer: of the text.
        units: the codebooks, and whether runs of a unit are merged.

    Raises:
        RowError: a side has no frames, or could not be aligned.
    """
    sides = {}
    for side in SIDES:
        text, found = getattr(utterance, side).text, heard[side]
        if not len(found.frames):
            raise RowError(f"{side}: too short for a single frame of {units.frame_seconds} s")
        frames, durations = found.frames, np.ones(len(found.frames), dtype=np.int64)
        if units.deduplicated:
            frames, durations = deduplicate(frames)
        tokens, token_offsets, unit_offsets = _words(
            side, text, found.marks, durations, tokenizer, units.frame_seconds
        )
        sides[side] = RowSide(
            text=text or "",
            tokens=tokens,
            token_offsets=token_offsets,
            units=frames + getattr(units, side).offset,
            durations=durations,
            unit_offsets=unit_offsets,
            seconds=found.seconds,
        )
    return Row(utterance.id, utterance.language, utterance.split, **sides)


def text_row(name: str, language: str, texts: Sequence[str], tokenizer: Tokenizer) -> Row:
    """Build the row of a pair without speech: every word is a group of its own."""
    sides = []
    for text in texts:
        tokens, offsets = tokenizer.encode(text)
        sides.append(RowSide(text, tokens, offsets, [], [], [0] * len(offsets), 0.0))
    return Row(name, language, "text", *sides)


def _words(
    side: str,
    text: str | None,
    marks: Marks | None,
    durations: np.ndarray,
    tokenizer: Tokenizer,
    frame_seconds: float,
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return tokens, and the offsets of tokens and of units of each alignment group."""
    if text is None:
        return [], np.zeros(2, np.int64), np.array([0, len(durations)])
    if marks is None:
        raise RowError(f"{side}: the aligner found no way through the audio with this text")
    tokens, offsets = tokenizer.encode(text)
    groups = align(marks, len(offsets) - 1, durations, frame_seconds)
    return tokens, np.array(offsets)[groups.word_offsets], groups.unit_offsets


def count(corpus: Path, entries: Sequence[ShardEntry], quarantined: int) -> SplitCard:
    """Count what the shards of a split hold."""
    return SplitCard(
        pairs=sum(entry.rows for entry in entries),
        quarantined=quarantined,
        **{side: _count_side(corpus, entries, side) for side in SIDES},
        shards=tuple(entries),
    )


def _count_side(corpus: Path, entries: Sequence[ShardEntry], side: SideName) -> SideCard:
    hours, words, units = 0.0, 0, 0
    names = [column(side, name) for name in ("seconds", "token_offsets", "units")]
    for entry in entries:
        table = read(corpus / entry.path, entry.rows, names)
        seconds, offsets, ids = (table[name] for name in names)
        hours += (pc.sum(seconds).as_py() or 0.0) / 3600.0
        words += (pc.sum(pc.list_value_length(offsets)).as_py() or 0) - len(table)
        units += pc.sum(pc.list_value_length(ids)).as_py() or 0
    return SideCard(round(hours, 6), words, units)
