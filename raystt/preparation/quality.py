"""Which recordings are used, and the record of those that are not."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np

from raystt.config.corpus import QualityConfig
from raystt.errors import BadInput
from raystt.files import write_atomic
from raystt.readers.utterance import NOWHERE, Quarantined, reasons
from raystt.speech import SAMPLE_RATE

SILENCE = 1e-4
"""Amplitude below which nothing was recorded; a step of 16 bits is 3e-5."""


class QualityError(BadInput):
    """Too many rows of a split are unusable; the text names it, the file of reasons and the key."""


def judge_audio(waveform: np.ndarray, text: str | None, config: QualityConfig) -> str | None:
    """Say why a recording cannot be used.

    Args:
        waveform: float32 [samples] at `SAMPLE_RATE`.
        text: what is said in it; None if that is not known.
        config: the limits.

    Returns:
        The reason, or None if it can be used.
    """
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < config.min_seconds:
        return f"lasts {seconds:.2f} s, less than min_seconds {config.min_seconds:g}"
    if seconds > config.max_seconds:
        return f"lasts {seconds:.2f} s, more than max_seconds {config.max_seconds:g}"
    # Half the range, not the peak: a constant offset is no sound.
    if np.ptp(waveform) / 2 < SILENCE:
        return f"silent throughout (amplitude below {SILENCE:g})"
    if text is not None and len(text) > config.max_characters_per_second * seconds:
        return (
            f"{len(text) / seconds:.0f} characters a second, more than "
            f"max_characters_per_second {config.max_characters_per_second:g}: "
            "cut short, or not the audio of this text"
        )
    return None


class Quarantine:
    """Collect the rows of a corpus that cannot be used; each is added once, with its first fault.

    Adding the same again changes nothing, so a preparation that goes on where it stopped may.
    """

    def __init__(self, path: Path | str) -> None:
        """Start with no rows; `path` is the file that `write` makes of them."""
        self.path = Path(path)
        self._rows: set[Quarantined] = set()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, row: Quarantined) -> None:
        """Take in a row."""
        if row not in self._rows:
            self._rows.add(row)
            self._counts[row.language, row.split] += 1

    def count(self, language: str, split: str) -> int:
        """Count the rows of a split."""
        return self._counts[language, split]

    def check(self, language: str, split: str, total: int, config: QualityConfig) -> None:
        """Refuse a split with too many unusable rows; `write` is called first.

        Args:
            language: source language.
            split: its split; with `NOWHERE`, the rows that do not tell are judged.
            total: rows of the split, the unusable ones among them.
            config: `max_quarantined` is the share from which on the split is refused. Under 0 no
                row may be unusable; under 1 a split is refused that has no other rows.

        Raises:
            QualityError: naming the split, the share, frequent reasons, the file and the key.
        """
        place, bad = (language, split), self.count(language, split)
        if not config.refuses(bad, total):
            return
        self.write()
        found = reasons(row for row in self._sorted() if (row.language, row.split) == place)
        where = "corpus.sources" if place == NOWHERE else f"corpus.languages.{language}.{split}"
        raise QualityError(
            f"{where}: {bad} of {total} rows ({bad / total:.1%}) cannot be used, the limit is "
            f"{config.max_quarantined:.1%}; most frequent: {found}; see {self.path} for all and "
            "mend the rows, or raise corpus.quality.max_quarantined"
        )

    def write(self) -> None:
        """Write one JSON object a row, in an order that does not depend on that of adding.

        Without a row there is no file.
        """
        if not self._rows:
            self.path.unlink(missing_ok=True)
            return
        lines = [
            json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n" for row in self._sorted()
        ]
        write_atomic(self.path, "".join(lines))

    def _sorted(self) -> list[Quarantined]:
        return sorted(self._rows, key=dataclasses.astuple)
