"""Chunks: some spoken pairs of a split in one file, the unit of work that a kill can lose.

A chunk holds audio (16 bit), word marks and unit-encoder features of both sides, so that audio is
read again only by what needs audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raystt.config import CorpusConfig
from raystt.preparation.embedded import READERS, TextPair
from raystt.preparation.files import WORK, building
from raystt.speech import SAMPLE_RATE

SIDES = ("source", "target")
PAIRS = 32
"""Pairs of a chunk: a second or two of work."""

LISTENED = ("dev", "test")
"""Splits whose audio is also kept as FLAC, to listen to."""

_FULL_SCALE = 32767.0


def chunk_path(corpus: Path, language: str, split: str, start: int) -> Path:
    """Return the file of the chunk whose first pair is `start`."""
    return corpus / WORK / "speech" / language / split / f"{start:07d}.npz"


def chunk_starts(pairs: int) -> range:
    """Return the first pair of each chunk of a split."""
    return range(0, pairs, PAIRS)


def speak_chunk(
    corpus: Path,
    config: CorpusConfig,
    language: str,
    split: str,
    start: int,
    pairs: Sequence[TextPair],
) -> None:
    """Speak pairs, compute features, and write the chunk."""
    import soundfile
    import torch

    from raystt.speech.units import features

    torch.set_num_threads(1)
    voices = READERS[config.reader](config).voices(language)
    arrays: dict[str, Any] = {}
    for side, voice in zip(SIDES, voices, strict=True):
        samples, marks, frames = [], [], []
        for pair in pairs:
            speech = voice.speak(getattr(pair, side))
            pcm = np.clip(speech.waveform * _FULL_SCALE, -32768, 32767).round().astype(np.int16)
            samples.append(pcm)
            marks.append(np.array(speech.words, dtype=np.float64).reshape(-1, 2))
            frames.append(features(_waveform(pcm)))
            if split in LISTENED:
                with building(corpus / "audio" / language / split / f"{pair.id}.{side}.flac") as to:
                    soundfile.write(to, pcm, SAMPLE_RATE, format="FLAC")
        for name, parts in (("samples", samples), ("marks", marks), ("features", frames)):
            arrays[f"{side}_{name}"] = np.concatenate(parts)
            arrays[f"{side}_{name}_counts"] = np.array([len(part) for part in parts])
    with building(chunk_path(corpus, language, split, start)) as path, path.open("wb") as file:
        np.savez(file, **arrays)


class Chunk:
    """Read a chunk; every method reads only what it returns, one item a pair."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def waveforms(self, side: str) -> list[np.ndarray]:
        """Return waveforms, float32 [samples]."""
        return [_waveform(pcm) for pcm in self._parts(side, "samples")]

    def seconds(self, side: str) -> list[float]:
        """Return lengths in seconds."""
        with np.load(self._path) as file:
            return [int(count) / SAMPLE_RATE for count in file[f"{side}_samples_counts"]]

    def marks(self, side: str) -> list[list[tuple[int, float]]]:
        """Return word marks: (index of the first word, start in seconds)."""
        return [[(int(w), float(s)) for w, s in part] for part in self._parts(side, "marks")]

    def features(self, side: str) -> list[np.ndarray]:
        """Return features of the unit encoder, float32 [frames, features]."""
        return self._parts(side, "features")

    def _parts(self, side: str, name: str) -> list[np.ndarray]:
        with np.load(self._path) as file:
            counts = file[f"{side}_{name}_counts"]
            return np.split(file[f"{side}_{name}"], np.cumsum(counts)[:-1])


def _waveform(pcm: np.ndarray) -> np.ndarray:
    return pcm.astype(np.float32) / np.float32(_FULL_SCALE)
