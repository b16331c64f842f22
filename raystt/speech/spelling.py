"""What is spelled of a word: one rule for the labels of CTC fine-tuning and of forced alignment."""

from __future__ import annotations

import unicodedata


def spoken(word: str) -> str:
    """Return the letters, digits and apostrophes of a word, composed (NFC), in their case.

    What stands between white space is one word, hyphens and all: it gets one mark. Punctuation is
    not spoken: as a label it would have to lie somewhere in the audio.

    >>> spoken("well-known,"), spoken("Don’t"), spoken("--")
    ('wellknown', "Don't", '')
    """
    composed = unicodedata.normalize("NFC", word).replace("\u2019", "'")
    kept = "".join(c for c in composed if unicodedata.category(c)[0] in "LMN" or c == "'")
    return kept if kept.strip("'") else ""


def spelling(text: str) -> str:
    """Return what a CTC model is taught to spell: the words of a text as `spoken`, lower-case.

    >>> spelling("Don’t  stop -- now!")
    "don't stop now"
    """
    return " ".join(filter(None, map(spoken, text.lower().split())))
