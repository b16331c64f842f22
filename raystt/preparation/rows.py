"""Rows of shards: words to tokens, frames to units, and which belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raystt.config import CorpusConfig
from raystt.corpus.card import CodebookCard, ShardEntry, SplitCard, UnitsCard
from raystt.readers.utterance import Utterance
from raystt.speech.alignment import Marks, align
from raystt.speech.units import deduplicate

SIDES = ("source", "target")


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

    if config.units.encoder == "mfcc":
        return config.units.encoder
    finetuned = config.finetune is not None
    return encoders.encoder_name(config.units.encoder, config.units.layer, finetuned=finetuned)


def row(
    utterance: Utterance, heard: dict[str, Heard], tokenizer: Tokenizer, units: UnitsCard
) -> dict[str, Any]:
    """Build the row of an utterance (`corpus.shards.SCHEMA`).

    Args:
        utterance: its texts; without `source_text` the source is one group without a token.
        heard: both sides' frames and marks.
        tokenizer: of the text.
        units: the codebooks, and whether runs of a unit are merged.

    Raises:
        RowError: a side has no frames, or could not be aligned.
    """
    result: dict[str, Any] = {
        "id": utterance.id, "language": utterance.language, "split": utterance.split,
    }  # fmt: skip
    for side in SIDES:
        text, found = getattr(utterance, f"{side}_text"), heard[side]
        if not len(found.frames):
            raise RowError(f"{side}: too short for a single frame of {units.frame_seconds} s")
        frames, durations = found.frames, np.ones(len(found.frames), dtype=np.int64)
        if units.deduplicated:
            frames, durations = deduplicate(frames)
        tokens, token_offsets, unit_offsets = _words(
            side, text, found.marks, durations, tokenizer, units.frame_seconds
        )
        result |= {
            f"{side}_text": text or "",
            f"{side}_tokens": tokens,
            f"{side}_token_offsets": token_offsets,
            f"{side}_units": frames + getattr(units, side).offset,
            f"{side}_durations": durations,
            f"{side}_unit_offsets": unit_offsets,
            f"{side}_seconds": found.seconds,
        }
    return result


def text_row(
    name: str, language: str, texts: Sequence[str], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Build the row of a pair without speech: every word is a group of its own."""
    result: dict[str, Any] = {"id": name, "language": language, "split": "text"}
    for side, text in zip(SIDES, texts, strict=True):
        tokens, offsets = tokenizer.encode(text)
        result |= {
            f"{side}_text": text,
            f"{side}_tokens": tokens,
            f"{side}_token_offsets": offsets,
            f"{side}_units": [],
            f"{side}_durations": [],
            f"{side}_unit_offsets": [0] * len(offsets),
            f"{side}_seconds": 0.0,
        }
    return result


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
    names = ("hours", "words", "units")
    sums = dict.fromkeys([f"{side}_{name}" for side in SIDES for name in names], 0.0)
    for entry in entries:
        table = pq.read_table(corpus / entry.path, partitioning=None)
        for side in SIDES:
            if not len(table):
                continue
            words = pc.sum(pc.list_value_length(table[f"{side}_token_offsets"])).as_py()
            sums[f"{side}_words"] += words - len(table)
            sums[f"{side}_units"] += pc.sum(pc.list_value_length(table[f"{side}_units"])).as_py()
            sums[f"{side}_hours"] += pc.sum(table[f"{side}_seconds"]).as_py() / 3600.0
    return SplitCard(
        pairs=sum(entry.rows for entry in entries),
        quarantined=quarantined,
        source_hours=round(sums["source_hours"], 6),
        target_hours=round(sums["target_hours"], 6),
        source_words=int(sums["source_words"]),
        target_words=int(sums["target_words"]),
        source_units=int(sums["source_units"]),
        target_units=int(sums["target_units"]),
        shards=tuple(entries),
    )
