"""A corpus of random pairs, made in milliseconds: for tests of what does not listen to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raystt.config import RunConfig, SearchConfig
from raystt.corpus.card import (
    Card,
    CodebookCard,
    Part,
    ShardEntry,
    SideCard,
    SplitCard,
    TokenizerCard,
    UnitsCard,
)
from raystt.corpus.rows import Row, RowSide
from raystt.corpus.shards import split_directory, write_shard
from raystt.preparation import tokenizer

TEXT, SOURCE_UNITS, TARGET_UNITS = 40, 12, 16


def tiny_corpus(path: Path, *, shards: tuple[int, ...] = (7, 5), seed: int = 0) -> Card:
    """Write a corpus of one language, "es", with a randomly initialised base model."""
    rng = np.random.default_rng(seed)
    splits = {}
    for split, sizes in (("train", shards), ("dev", (4,)), ("text", (9,))):
        entries = []
        for number, rows in enumerate(sizes):
            name = f"{split_directory('es', split)}/part-{number:05d}.parquet"
            write_shard(
                [_row(rng, f"{split}-{number}-{i}", split) for i in range(rows)], path / name
            )
            entries.append(ShardEntry(name, rows))
        side = SideCard(0.1, 1, 1)
        splits[split] = SplitCard(sum(sizes), 0, side, side, tuple(entries))
    card = Card(
        reader="embedded",
        fingerprint=f"tiny-{seed}",
        config={},
        tables={},
        unplaced=0,
        sample_rate=16000,
        target_language="en",
        transcribed=True,
        languages={"es": splits},
        tokenizer=TokenizerCard(
            "tokenizer",
            TEXT,
            TEXT,
            TEXT,
            bos=1,
            separator=3,
            eos=2,
            pad=0,
            mask=5,
            speech=6,
            text=7,
        ),
        units=UnitsCard(
            total=SOURCE_UNITS + TARGET_UNITS,
            frame_seconds=0.06,
            deduplicated=True,
            encoder="mfcc",
            source=CodebookCard("units/source.safetensors", SOURCE_UNITS, 0),
            target=CodebookCard("units/target.safetensors", TARGET_UNITS, SOURCE_UNITS),
        ),
        vocoder=Part("conv", "vocoder"),
        asr=Part("pocketsphinx", "asr"),
        base="base",
    )
    card.save(path)
    names = ("<pad>", "<s>", "</s>", "<sep>", "<unk>", "<mask>", "<speech>", "<text>")
    words = (*names, *(f"word{i}" for i in range(len(names), TEXT)))
    tokenizer.save({word: i for i, word in enumerate(words)}, path, card.units.total)
    # Not above: tests of studies and configs need no torch.
    import torch

    from raystt.training.model import new_llama

    torch.manual_seed(seed)
    model = new_llama(vocabulary=card.vocabulary, hidden=32, layers=2, heads=2, pad=0, bos=1, eos=2)
    model.save_pretrained(path / "base")
    return card


def heard_corpus(path: Path) -> None:
    """Write a tiny corpus with a recogniser and a vocoder, hardly trained."""
    from raystt.preparation.fit_vocoder import Settings, train_vocoder
    from raystt.recognition.sphinx import PocketSphinx

    tiny_corpus(path)
    PocketSphinx.build(["the word sees a word", "a word"], path / "asr")
    rng = np.random.default_rng(0)
    spoken = []
    for _ in range(4):
        units = np.arange(12) % TARGET_UNITS
        noise = 0.1 * rng.standard_normal(960 * 24).astype(np.float32)
        spoken.append((units, np.full(12, 2), noise))
    settings = Settings(TARGET_UNITS, steps=1, hidden=16)
    train_vocoder(spoken, settings).save(path / "vocoder")


def _row(rng: np.random.Generator, name: str, split: str) -> Row:
    sides = []
    spoken = split != "text"
    for low, clusters in ((0, SOURCE_UNITS), (SOURCE_UNITS, TARGET_UNITS)):
        words = int(rng.integers(2, 6))
        units = rng.integers(1, 5, words) if spoken else np.zeros(words, np.int64)
        total = int(units.sum())
        side = RowSide(
            text=" ".join(["word"] * words),
            tokens=rng.integers(5, TEXT, words).tolist(),
            token_offsets=list(range(words + 1)),
            units=_no_repeats(rng, low, clusters, total),
            durations=rng.integers(1, 4, total).tolist(),
            unit_offsets=np.concatenate([[0], np.cumsum(units)]).tolist(),
            seconds=0.06 * total,
        )
        sides.append(side)
    return Row(name, "es", split, *sides)


def _no_repeats(rng: np.random.Generator, low: int, clusters: int, total: int) -> list[int]:
    steps = rng.integers(1, clusters, total)
    return (low + np.cumsum(steps) % clusters).tolist()


def tiny_run(path: Path, **training: Any) -> RunConfig:
    """Return a run over the tiny corpus."""
    return RunConfig.model_validate(
        {
            "name": "tiny",
            "language": "es",
            "corpus": {"path": str(path), "languages": {"es": {"train": 12}}},
            "schedule": {"shape": "linear", "initial": 0.9, "end": 0.8},
            "training": {
                "steps": 6, "batch_utterances": 4, "learning_rate": 1e-3, "log_every": 1,
                "dropout": 0.1, "precision": "fp32", **training,
            },
        }
    )  # fmt: skip


def tiny_search(path: Path, **changes: Any) -> SearchConfig:
    """Return a search over the tiny corpus, which `path/corpus` holds or not."""
    return SearchConfig.model_validate(
        {
            "name": "tiny",
            "languages": ["es"],
            "trials": 4,
            "confirm": {"top": 0},
            "references": ["none", "paper", "constant"],
            "sampler": "tpe",
            "space": {
                "schedule.shape": {"choice": ["linear", "staircase"]},
                "schedule.initial": {"float": [0.5, 1.0]},
                "schedule.end": {"float": [0.5, 1.0]},
            },
            "base": {
                "corpus": {"path": str(path / "corpus"), "languages": {"es": {"train": 12}}},
                "training": {"steps": 6, "batch_utterances": 4, "precision": "fp32"},
                "evaluation": {"resamples": 400},
                "storage": str(path / "runs"),
            },
            **changes,
        }
    )
