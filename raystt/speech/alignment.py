"""Word alignment: from the times at which words start to the units that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raystt.errors import BadInput

Marks = tuple[tuple[int, float], ...]
"""Word marks: (index of the first word, start in seconds), both rising."""


class AlignmentError(BadInput):
    """Marks that do not fit a sentence, or an aligner that cannot be used; the text says why."""


@dataclass(frozen=True)
class Alignment:
    """Alignment groups of a sentence: one or several words and the units of their audio.

    Attributes:
        word_offsets: int64 [groups + 1]; group g holds words `word_offsets[g]` to
            `word_offsets[g + 1] - 1`.
        unit_offsets: int64 [groups + 1]; the same for units. Both cover everything from 0 on, and
            every group has a word and a unit.
    """

    word_offsets: np.ndarray
    unit_offsets: np.ndarray


def align(
    marks: Sequence[tuple[int, float]], words: int, durations: np.ndarray, frame_seconds: float
) -> Alignment:
    """Cut the units of a sentence at its word marks.

    A border goes to the nearest border between two units, so a unit that spans two words belongs
    to the one that holds most of it. Words without a mark of their own, and words too short to get
    a unit, join the group before them (at the start, the one behind). Silence before the first word
    belongs to it.

    Args:
        marks: (index of the first word, start in seconds) of groups, both rising.
        words: number of words of the sentence.
        durations: int [units], frames of each unit, all 1 or more.
        frame_seconds: length of a frame in seconds.

    Raises:
        AlignmentError: no words or no units, or marks that fall or lie outside the sentence.
    """
    borders = np.concatenate([[0], np.cumsum(durations, dtype=np.int64)])
    units = len(borders) - 1
    if words < 1 or units < 1:
        raise AlignmentError(f"cannot align {words} words to {units} units; drop the sentence")
    word_starts, unit_starts = [0], [0]
    last_word, last_time = -1, 0.0
    for word, seconds in marks:
        if not last_word < word < words or seconds < last_time:
            raise AlignmentError(
                f"mark (word {word}, {seconds:.3f} s) after (word {last_word}, {last_time:.3f} s) "
                f"does not fit a sentence of {words} words; marks must rise in both"
            )
        last_word, last_time = word, seconds
        unit = _nearest(borders, seconds / frame_seconds)
        if word > 0 and unit_starts[-1] < unit < units:
            word_starts.append(word)
            unit_starts.append(unit)
    return Alignment(
        np.array([*word_starts, words], dtype=np.int64),
        np.array([*unit_starts, units], dtype=np.int64),
    )


def _nearest(borders: np.ndarray, frame: float) -> int:
    right = int(np.searchsorted(borders, frame))
    if right == 0 or right == len(borders):
        return min(right, len(borders) - 1)
    return right - 1 if frame - borders[right - 1] < borders[right] - frame else right
