"""What a CTC model says of a waveform, read along a transcript: where each word starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torchaudio.functional import forced_align, merge_tokens

from raystt.speech.alignment import Marks
from raystt.speech.romanise import romanise
from raystt.speech.spelling import spoken


class Alphabet:
    """Labels of a CTC model that stand for single letters.

    Args:
        labels: letter to label, without blank, delimiter and special tokens.
        blank: label of the blank.
        delimiter: label between words, if the model has one.
        language: language of the texts, for romanisation.
    """

    def __init__(
        self, labels: Mapping[str, int], blank: int, delimiter: int | None, language: str
    ) -> None:
        self.blank = blank
        self.delimiter = delimiter
        self._labels = labels
        self._language = language

    def spell(self, word: str) -> list[int]:
        """Return the labels of a word.

        A letter of what is `spoken` takes the case that the alphabet has. Runs of letters outside
        it are romanised; what is still outside is dropped.
        """
        labels: list[int] = []
        outside = ""
        for letter in spoken(word):
            found = self._find(letter)
            if found:
                labels += self._romanised(outside) + found
                outside = ""
            else:
                outside += letter
        return labels + self._romanised(outside)

    def _romanised(self, letters: str) -> list[int]:
        if not any(map(str.isalpha, letters)):
            return []
        latin = romanise(letters, self._language)
        return [label for letter in latin for label in self._find(letter)]

    def _find(self, letter: str) -> list[int]:
        for form in (letter, letter.lower(), letter.upper()):
            # "İ".lower() and "ß".upper() are two characters.
            if all(character in self._labels for character in form):
                return [self._labels[character] for character in form]
        return []


def word_starts(
    emission: np.ndarray, words: Sequence[Sequence[int]], blank: int, delimiter: int | None
) -> list[float | None] | None:
    """Align labels to an emission and return the frame at which each word starts.

    A CTC model tells a label some frames after its sound begins. So a word starts in the middle
    between the last label of the word before and its own first one; the first word, at its label.

    Args:
        emission: float32 [frames, labels], log probabilities.
        words: labels of each word; a word without labels takes no part.
        blank: label of the blank.
        delimiter: label between two words, if there is one.

    Returns:
        One frame a word, which may be a half one, None for a word without labels; None altogether
        where there are no labels or too few frames for them.
    """
    targets: list[int] = []
    borders: list[tuple[int, int] | None] = []  # the last label before a word, and its first one
    for labels in words:
        before = len(targets) - 1
        if labels and targets and delimiter is not None:
            targets.append(delimiter)
        borders.append((before, len(targets)) if labels else None)
        targets += labels
    # CTC needs a blank between two equal labels.
    needed = len(targets) + sum(a == b for a, b in zip(targets, targets[1:], strict=False))
    if not targets or needed > len(emission):
        return None
    path, scores = forced_align(
        torch.from_numpy(emission)[None], torch.tensor([targets], dtype=torch.int32), blank=blank
    )
    spans = merge_tokens(path[0], scores[0], blank=blank)

    def start(before: int, first: int) -> float:
        begins: int = spans[first].start
        return begins if before < 0 else (spans[before].end + begins) / 2

    return [None if border is None else start(*border) for border in borders]


def marks(emission: np.ndarray, text: str, alphabet: Alphabet, seconds: float) -> Marks | None:
    """Return (word index, start in seconds) of the words of a text that can be spelled.

    Args:
        emission: float32 [frames, labels], log probabilities.
        text: what is said; words stand between white space.
        alphabet: of the model.
        seconds: length of a frame.

    Returns:
        None where no word can be spelled, or there are too few frames.
    """
    words = [alphabet.spell(word) for word in text.split()]
    starts = word_starts(emission, words, alphabet.blank, alphabet.delimiter)
    if starts is None:
        return None
    return tuple((i, start * seconds) for i, start in enumerate(starts) if start is not None)
