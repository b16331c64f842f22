"""The reader `embedded`: sentences of the seeded grammar, spoken by eSpeak NG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raystt.config import CorpusConfig
from raystt.errors import PrepareError
from raystt.readers import grammar

# The target voice differs from every source voice: nothing may be copied from input to output.
# Each is (language, variant) of `speech.tts.Voice`.
WORDS_A_MINUTE = 220
"""Fluent speech: a fifth fewer units a sentence than at the synthesizer's 175."""

SOURCE_VOICES = {"es": ("es", ""), "fr": ("fr", ""), "de": ("de", "")}
TARGET_VOICES = {"en": ("en-us", "f2")}


@dataclass(frozen=True)
class TextPair:
    """A sentence pair in spoken form; `id` is unique in the corpus."""

    id: str
    source: str
    target: str


class EmbeddedReader:
    """Sentences and voices of an embedded corpus."""

    def __init__(self, config: CorpusConfig) -> None:
        """Check that grammar and voices cover the config's languages.

        Raises:
            PrepareError: naming the key, and what there is instead.
        """
        if config.target not in TARGET_VOICES:
            raise PrepareError(
                f"corpus.target: the embedded corpus has no target {config.target!r}; "
                f"use {', '.join(TARGET_VOICES)}"
            )
        for language in config.languages:
            if language not in SOURCE_VOICES:
                raise PrepareError(
                    f"corpus.languages.{language}: the embedded corpus has no language "
                    f"{language!r}; use {', '.join(SOURCE_VOICES)}"
                )
        self._config = config

    def pairs(self, language: str, split: str) -> list[TextPair]:
        """Return the pairs of a split (`train`, `dev`, `test` or `text`), always the same."""
        sizes = self._config.languages[language].model_dump() | {"text": self._config.text_pairs}
        try:
            drawn = grammar.pairs(
                language, split, sizes[split], seed=self._config.seed, target=self._config.target
            )
        except ValueError as error:
            raise PrepareError(f"corpus.languages.{language}: {error}") from None
        return [
            TextPair(f"{language}-{split}-{i:06d}", pair.source, pair.target)
            for i, pair in enumerate(drawn)
        ]

    def words(self) -> Iterable[str]:
        """Return every word that a sentence can hold, in either language."""
        for language in (self._config.target, *sorted(self._config.languages)):
            yield from grammar.words(language)
