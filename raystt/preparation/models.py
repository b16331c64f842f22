"""Models fitted to a corpus (vocoder, recogniser, base LM), and the ceiling they allow."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from raystt import bleu
from raystt.atomic import write_atomic
from raystt.config import CorpusConfig
from raystt.corpus.card import Card, Ceiling, CeilingScore, ShardEntry
from raystt.preparation.chunks import PAIRS, Chunk, chunk_path
from raystt.preparation.files import WORK, building
from raystt.preparation.rows import units_card

RECOGNIZER = "pocketsphinx"
VOCODER, ASR, BASE = "vocoder", "asr", "base"  # directories, relative to the corpus
NORMALISER = "plain"
CEILING_SPLIT = "dev"
CEILING_KINDS = ("audio", "resynthesis")

_SAMPLE = 600
"""Utterances that the vocoder is fitted to, over all languages."""

_HEARD = 64
"""Sentences of a language that the ceiling is measured on, at most."""

# Optimiser steps of the vocoder. On the embedded corpus, 250 give the resynthesis ceiling of 400
# (95 ASR-BLEU, audio itself 96), 160 some 3 points less. A handful of utterances needs fewer.
_STEPS, _STEPS_AN_UTTERANCE = 250, 3


def progress_path(corpus: Path, stage: str) -> Path:
    """Return the file in which a worker notes (done, total) of a long stage."""
    return corpus / WORK / "progress" / f"{stage}.json"


def fit_vocoder(
    corpus: Path, config: CorpusConfig, shards: dict[str, list[ShardEntry]], threads: int
) -> None:
    """Fit the vocoder to the target side of the training pairs, in equal parts of each language."""
    import torch

    from raystt.speech.vocoder import vocoder

    torch.set_num_threads(threads)
    card = units_card(config)
    share = -(-_SAMPLE // len(shards))
    pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for language, entries in shards.items():
        rows = _rows(corpus, entries, ["target_units", "target_durations"], share)
        starts = range(0, len(rows), PAIRS)
        chunks = (Chunk(chunk_path(corpus, language, "train", start)) for start in starts)
        waveforms = itertools.chain.from_iterable(chunk.waveforms("target") for chunk in chunks)
        # Not strict: the last chunk may reach beyond the share.
        for row, waveform in zip(rows, waveforms, strict=False):
            units = np.array(row["target_units"]) - card.target.offset
            pairs.append((units, np.array(row["target_durations"]), waveform))
    note = _note(corpus, "vocoder")
    size: dict[str, Any] = {"steps": min(_STEPS, _STEPS_AN_UTTERANCE * len(pairs))}
    fitted = vocoder(config.vocoder).fit(
        pairs,
        clusters=card.target.clusters,
        seed=config.seed,
        on_step=lambda step, steps, loss: note(step, steps),
        **size,
    )
    with building(corpus / VOCODER) as folder:
        fitted.save(folder)


def build_asr(corpus: Path, sentences: Sequence[str]) -> None:
    """Build the recogniser from the target text of `train` and `text`."""
    from raystt.speech.asr import recognizer

    with building(corpus / ASR) as folder:
        recognizer(RECOGNIZER).build(sentences, folder)


def train_base(corpus: Path, config: CorpusConfig, card: Card, threads: int) -> None:
    """Train the text LM; `card` knows tokenizer, units and the `text` split."""
    from raystt.training.pretrain import pretrain_base

    note = _note(corpus, "base")
    with building(corpus / BASE) as folder:
        pretrain_base(
            corpus,
            card,
            config.base,
            folder,
            seed=config.seed,
            threads=threads,
            on_step=lambda step, steps, loss: note(step, steps),
        )


def measure_ceiling(
    corpus: Path,
    config: CorpusConfig,
    entries: Sequence[ShardEntry],
    language: str,
    kind: str,
    *done: object,
) -> None:
    """Transcribe the reference of dev sentences and store BLEU statistics.

    Args:
        corpus: directory of the corpus.
        config: its config.
        entries: dev shards of the language.
        language: source language.
        kind: "audio" (the synthesizer's own) or "resynthesis" (reference units, vocoded).
        done: results of the tasks that this one comes after.
    """
    import torch

    from raystt.speech.asr import recognizer
    from raystt.speech.vocoder import vocoder

    torch.set_num_threads(1)
    asr = recognizer(RECOGNIZER).load(corpus / ASR)
    rows = _rows(corpus, entries, ["target_text", "target_units"], _HEARD)
    if kind == "audio":
        starts = range(0, len(rows), PAIRS)
        chunks = [Chunk(chunk_path(corpus, language, CEILING_SPLIT, start)) for start in starts]
        waveforms = [waveform for chunk in chunks for waveform in chunk.waveforms("target")]
        waveforms = waveforms[: len(rows)]
        spoken_by = "none"
    else:
        model = vocoder(config.vocoder).load(corpus / VOCODER)
        offset = units_card(config).target.offset
        waveforms = model.synthesize([np.array(row["target_units"]) - offset for row in rows])
        spoken_by = model.signature
    heard = [bleu.normalise(text, NORMALISER) for text in asr.transcribe(waveforms)]
    truth = [bleu.normalise(row["target_text"], NORMALISER) for row in rows]
    signature = bleu.signature(asr=asr.signature, vocoder=spoken_by, normaliser=NORMALISER)
    result = {"signature": signature, "statistics": bleu.statistics(heard, truth).tolist()}
    write_atomic(ceiling_path(corpus, language, kind), json.dumps(result) + "\n")


def ceiling_path(corpus: Path, language: str, kind: str) -> Path:
    """Return the file that holds the statistics of one ceiling."""
    return corpus / WORK / "ceiling" / f"{language}.{kind}.json"


def ceiling(corpus: Path, language: str, seed: int) -> Ceiling:
    """Score the statistics of `measure_ceiling`."""
    scores: dict[str, CeilingScore] = {}
    for kind in CEILING_KINDS:
        result = json.loads(ceiling_path(corpus, language, kind).read_text(encoding="utf-8"))
        stats = np.array(result["statistics"], dtype=np.int64)
        score = bleu.score(stats, signature=result["signature"], seed=seed)
        scores[kind] = CeilingScore(score.asr_bleu, score.ci)
    return Ceiling(
        split=CEILING_SPLIT,
        sentences=score.sentences,
        audio=scores["audio"],
        resynthesis=scores["resynthesis"],
        signature=score.signature,
    )


def _rows(
    corpus: Path, entries: Sequence[ShardEntry], columns: list[str], limit: int
) -> list[dict[str, Any]]:
    """Read columns of the first `limit` rows of some shards."""
    rows: list[dict[str, Any]] = []
    for entry in entries:
        if len(rows) >= limit:
            break
        rows += pq.read_table(corpus / entry.path, columns=columns, partitioning=None).to_pylist()
    return rows[:limit]


def _note(corpus: Path, stage: str) -> Callable[[int, int], None]:
    def note(done: int, total: int) -> None:
        write_atomic(progress_path(corpus, stage), json.dumps([done, total]))

    return note
