"""What a corpus reader gives: sentence pairs with their audio files, and rows it had to refuse."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from raystt.speech.alignment import Marks

NOWHERE = ("", "")
"""Language and split of a row that does not say where it belongs."""

_LONGEST_STEM = 120
_PARTICULAR = re.compile(r"\S*/\S*|[\d.]+")


@dataclass(frozen=True)
class Recording:
    """One side of an utterance.

    Attributes:
        audio: path of the recording, of any rate and number of channels.
        text: its transcript in spoken form; None if there is none, which only a source may do.
        marks: exact word marks, where a synthesizer gave them.
    """

    audio: str
    text: str | None
    marks: Marks | None = None


@dataclass(frozen=True)
class Utterance:
    """A sentence pair as a reader finds it.

    Attributes:
        id: unique in the corpus.
        language: source language.
        split: "train", "dev" or "test".
        source: its recording in `language`.
        target: its recording in the target language.
    """

    id: str
    language: str
    split: str
    source: Recording
    target: Recording


@dataclass(frozen=True)
class Quarantined:
    """A row that cannot be used.

    Attributes:
        language: source language.
        split: its split; where the row does not tell, language and split are `NOWHERE`.
        id: its id, or "" where it has none.
        place: file and line of the row, or the audio file at fault.
        reason: what is wrong with it.
    """

    language: str
    split: str
    id: str
    place: str
    reason: str


def reasons(rows: Iterable[Quarantined], most: int = 3) -> str:
    """Name the most frequent reasons, each with its number and the place of one such row."""
    kinds: dict[str, list[Quarantined]] = {}
    for row in rows:  # paths and numbers differ from row to row
        kinds.setdefault(_PARTICULAR.sub("", row.reason), []).append(row)
    frequent = sorted(kinds.values(), key=len, reverse=True)[:most]
    return "; ".join(f"{len(rows)} x {rows[0].reason} ({rows[0].place})" for rows in frequent)


def audio_path(corpus: Path, language: str, split: str, name: str, side: str) -> Path:
    """Return where the FLAC of one side of an utterance of dev or test is kept."""
    stem = quote(name, safe="")
    if len(stem) > _LONGEST_STEM:  # file systems stop at 255 bytes
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        stem = f"{stem[:_LONGEST_STEM]}-{digest}"
    return corpus / "audio" / language / split / f"{stem}.{side}.flac"
