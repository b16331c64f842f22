"""Rows of shards: text to tokens, audio to units, words to both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raystt.config import CorpusConfig
from raystt.corpus.card import CodebookCard, ShardEntry, SplitCard, UnitsCard
from raystt.corpus.shards import split_directory, write_shard
from raystt.preparation.chunks import PAIRS, SIDES, Chunk, chunk_path
from raystt.preparation.embedded import TextPair

ENCODER = "mfcc"
FRAME_SECONDS = 0.06  # of that encoder; named here so that text alone needs no torch

_SAMPLE = 600
"""Utterances that a codebook is fitted to, over all languages."""


def units_card(config: CorpusConfig) -> UnitsCard:
    """Describe the codebooks: units of the target follow those of the source."""
    source, target = config.units.source, config.units.target
    return UnitsCard(
        total=source + target,
        frame_seconds=FRAME_SECONDS,
        deduplicated=config.units.deduplicate,
        encoder=ENCODER,
        source=CodebookCard("units/source.safetensors", source, 0),
        target=CodebookCard("units/target.safetensors", target, source),
    )


def shard_entries(language: str, split: str, pairs: int, most: int) -> list[ShardEntry]:
    """Plan the shards of a split, none with more than `most` rows."""
    folder = split_directory(language, split)
    starts = range(0, pairs, most)
    return [
        ShardEntry(f"{folder}/part-{i:05d}.parquet", min(most, pairs - start))
        for i, start in enumerate(starts)
    ]


def fit_codebook(corpus: Path, config: CorpusConfig, side: str, sizes: dict[str, int]) -> None:
    """Fit and save the codebook of a side on training speech, in equal parts of each language.

    Args:
        corpus: directory of the corpus.
        config: its config.
        side: "source" or "target".
        sizes: training pairs by language.
    """
    import torch

    from raystt.speech.units import ENCODERS

    torch.set_num_threads(1)
    share = -(-_SAMPLE // len(sizes))
    frames: list[np.ndarray] = []
    for language, pairs in sizes.items():
        taken: list[np.ndarray] = []
        for start in range(0, min(pairs, share), PAIRS):
            taken += Chunk(chunk_path(corpus, language, "train", start)).features(side)
        frames += taken[:share]
    book = getattr(units_card(config), side)
    encoder = ENCODERS[ENCODER].fit_features(np.concatenate(frames), book.clusters, config.seed)
    encoder.save(corpus / book.path)


def write_speech_shard(
    corpus: Path,
    config: CorpusConfig,
    ids: dict[str, int],
    language: str,
    split: str,
    entry: ShardEntry,
    start: int,
    pairs: Sequence[TextPair],
) -> None:
    """Encode and align the pairs of one shard, from pair `start` of the split on, and write it."""
    import torch

    from raystt.speech.alignment import align
    from raystt.speech.units import deduplicate, load

    torch.set_num_threads(1)
    rows = [_row(pair, language, split) for pair in pairs]
    first = start // PAIRS * PAIRS
    chunks = [
        Chunk(chunk_path(corpus, language, split, at))
        for at in range(first, start + len(pairs), PAIRS)
    ]
    card = units_card(config)
    for side in SIDES:
        book = getattr(card, side)
        encoder = load(corpus / book.path)
        spoken = [
            spoken
            for chunk in chunks
            for spoken in zip(
                chunk.features(side), chunk.marks(side), chunk.seconds(side), strict=True
            )
        ][start - first :]
        for row, (features, marks, seconds) in zip(rows, spoken, strict=False):
            units = encoder.assign(features)
            durations = np.ones(len(units), dtype=np.int64)
            if config.units.deduplicate:
                units, durations = deduplicate(units)
            words = row[f"{side}_text"].split()
            groups = align(marks, len(words), durations, encoder.frame_seconds)
            row[f"{side}_tokens"] = [ids[word] for word in words]
            # One token a word, so the spans of words are those of tokens.
            row[f"{side}_token_offsets"] = groups.word_offsets
            row[f"{side}_units"] = units + book.offset
            row[f"{side}_durations"] = durations
            row[f"{side}_unit_offsets"] = groups.unit_offsets
            row[f"{side}_seconds"] = seconds
    write_shard(rows, corpus / entry.path)


def write_text_shard(
    corpus: Path, ids: dict[str, int], language: str, entry: ShardEntry, pairs: Iterable[TextPair]
) -> None:
    """Write pairs without speech: every word is a group of its own."""
    rows = []
    for pair in pairs:
        row = _row(pair, language, "text")
        for side in SIDES:
            words = row[f"{side}_text"].split()
            row[f"{side}_tokens"] = [ids[word] for word in words]
            row[f"{side}_token_offsets"] = range(len(words) + 1)
            row[f"{side}_units"] = []
            row[f"{side}_durations"] = []
            row[f"{side}_unit_offsets"] = [0] * (len(words) + 1)
            row[f"{side}_seconds"] = 0.0
        rows.append(row)
    write_shard(rows, corpus / entry.path)


def count(corpus: Path, entries: Sequence[ShardEntry]) -> SplitCard:
    """Count what the shards of a split hold."""
    sums: dict[str, float] = {}
    for entry in entries:
        table = pq.read_table(corpus / entry.path, partitioning=None)
        for side in SIDES:
            words = pc.sum(pc.list_value_length(table[f"{side}_token_offsets"])).as_py()
            for name, amount in (
                ("words", words - len(table)),
                ("units", pc.sum(pc.list_value_length(table[f"{side}_units"])).as_py()),
                ("hours", pc.sum(table[f"{side}_seconds"]).as_py() / 3600.0),
            ):
                sums[f"{side}_{name}"] = sums.get(f"{side}_{name}", 0) + amount
    return SplitCard(
        pairs=sum(entry.rows for entry in entries),
        source_hours=round(sums["source_hours"], 6),
        target_hours=round(sums["target_hours"], 6),
        source_words=int(sums["source_words"]),
        target_words=int(sums["target_words"]),
        source_units=int(sums["source_units"]),
        target_units=int(sums["target_units"]),
        shards=tuple(entries),
    )


def _row(pair: TextPair, language: str, split: str) -> dict[str, Any]:
    return {
        "id": pair.id,
        "language": language,
        "split": split,
        "source_text": pair.source,
        "target_text": pair.target,
    }
