"""What a corpus reader gives: sentence pairs with their audio files, and rows it had to refuse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from raystt.speech.alignment import Marks

_LONGEST_STEM = 120


@dataclass(frozen=True)
class Utterance:
    """A sentence pair as a reader finds it.

    Attributes:
        id: unique in the corpus.
        language: source language.
        split: "train", "dev" or "test".
        source_audio: path of the source recording, of any rate and number of channels.
        source_text: its transcript in spoken form; None if there is none.
        target_audio: path of the target recording.
        target_text: its transcript.
        source_marks: exact word marks, where a synthesizer gave them.
        target_marks: the same of the target.
    """

    id: str
    language: str
    split: str
    source_audio: str
    source_text: str | None
    target_audio: str
    target_text: str
    source_marks: Marks | None = None
    target_marks: Marks | None = None


@dataclass(frozen=True)
class Quarantined:
    """A row that cannot be used.

    Attributes:
        language: source language.
        split: its split.
        id: its id, or "" where it has none.
        place: file and line of the row, or the audio file at fault.
        reason: what is wrong with it.
    """

    language: str
    split: str
    id: str
    place: str
    reason: str


def audio_path(corpus: Path, language: str, split: str, name: str, side: str) -> Path:
    """Return where the FLAC of one side of an utterance of dev or test is kept."""
    stem = quote(name, safe="")
    if len(stem) > _LONGEST_STEM:  # file systems stop at 255 bytes
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        stem = f"{stem[:_LONGEST_STEM]}-{digest}"
    return corpus / "audio" / language / split / f"{stem}.{side}.flac"
