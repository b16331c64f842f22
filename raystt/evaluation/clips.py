"""Short recordings for people to hear: what a dozen sentences are, and what models said of them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from raystt.corpus.card import SIDES, Card
from raystt.corpus.rows import of_side
from raystt.corpus.shards import read_rows
from raystt.files import replacing, write_atomic
from raystt.interleaving.rules import utterance_key
from raystt.readers.utterance import audio_path

CLIPS = 12
"""Sentences of a split that can be heard, the same for every model."""

_INDEX = "sentences.json"


def heard(ids: Sequence[str]) -> list[int]:
    """Return the places of the sentences that can be heard: those of the least `utterance_key`."""
    return sorted(range(len(ids)), key=lambda place: utterance_key(ids[place]))[:CLIPS]


def encode(waveform: np.ndarray, rate: int) -> bytes:
    """Return a waveform, float32 `[samples]` at `rate` Hz, as MP3; nothing where it is empty."""
    if not len(waveform):
        return b""
    buffer = io.BytesIO()
    # The encoder ends the process at a sample that is no number.
    soundfile.write(buffer, np.nan_to_num(waveform), rate, format="MP3")
    return buffer.getvalue()


def clip(folder: Path, number: int, kind: str = "") -> Path:
    """Return where the clip of the `number`th sentence lies; `kind` is a side of a recording."""
    return folder / f"{number:02d}{kind and '-'}{kind}.mp3"


def write_clips(folder: Path, clips: Sequence[bytes]) -> None:
    """Write the clips of a model."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(clips):
        _write(clip(folder, number), data)


def keep_recordings(corpus: Path, card: Card, language: str, split: str, folder: Path) -> None:
    """Copy the recordings of the sentences that can be heard, and their texts.

    A recording that the corpus has lost, or that is damaged, is left out.

    Args:
        corpus: Directory of the prepared corpus.
        card: Its card.
        language: Source language.
        split: "dev" or "test".
        folder: Where to write.
    """
    if (folder / _INDEX).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(corpus, card, language, split, CLIPS)
    ids = rows["id"].to_pylist()
    for number, name in enumerate(ids):
        for side in SIDES:
            path = audio_path(corpus, language, split, name, side)
            with suppress(soundfile.SoundFileError):
                _write(clip(folder, number, side), encode(*soundfile.read(path)))
    texts = {side: of_side(rows, side)["text"].to_pylist() for side in SIDES}
    index = [{"id": name, **{side: texts[side][n] for side in SIDES}} for n, name in enumerate(ids)]
    write_atomic(folder / _INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, data: bytes) -> None:
    if not data:  # a silent clip is none, and that of an earlier model is not this one's
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_recordings(folder: Path) -> list[dict[str, str | None]]:
    """Return `id`, `source` and `target` text of each sentence; none before they were copied."""
    path = folder / _INDEX
    found: list[dict[str, str | None]] = []
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    return found
