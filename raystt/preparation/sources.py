"""Where the utterances of a corpus come from: recordings, or sentences that are spoken first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from raystt.config import CorpusConfig
from raystt.config.corpus import SPLITS
from raystt.corpus.card import ShardEntry, TokenizerCard
from raystt.corpus.shards import split_directory, write_shard
from raystt.files import content_hash
from raystt.preparation import speak
from raystt.preparation.rows import text_row
from raystt.preparation.tasks import Progress, Tasks
from raystt.readers.embedded import EmbeddedReader, TextPair
from raystt.readers.recordings import open_reader, subset
from raystt.readers.utterance import NOWHERE, Quarantined, Utterance

Utterances = dict[tuple[str, str], list[Utterance]]
"""By (language, split), in order."""


class Source(Protocol):
    """What a preparation needs of either kind of corpus.

    Attributes:
        tables: hashes of the files that name the recordings, by path.
        transcribed: whether all sources have a text.
    """

    tables: dict[str, str]
    transcribed: bool

    def tokenizer(self, units: int) -> TokenizerCard:
        """Write the tokenizer, with so many units, unless it is there."""
        ...

    def utterances(self, tasks: Tasks) -> Utterances:
        """Return all utterances; Ray must be up."""
        ...

    def refused(self, language: str, split: str) -> list[Quarantined]:
        """Return the rows of a split, or of `NOWHERE`, that were no use as they stand."""
        ...


class Recordings:
    """Recordings that a reader finds.

    Raises:
        BadInput: there are none, or not those that the config asks for.
    """

    def __init__(self, corpus: Path, config: CorpusConfig) -> None:
        self._corpus, self._config = corpus, config
        reader = open_reader(config)
        self._found: Utterances = {}
        rows = 0
        self._refused: dict[tuple[str, str], list[Quarantined]] = {}
        for language, split in spoken_splits(config):
            found, refused = _transcribed(*reader.read(language, split))
            drawn = subset(found, getattr(config.languages[language], split))
            # Of a split that is not taken whole, the same share of the rows that are no use.
            share = len(drawn) / len(found) if found else 1.0
            self._found[language, split] = drawn
            self._refused[language, split] = refused[: math.ceil(share * len(refused))]
            rows += len(found)
        share = sum(map(len, self._found.values())) / rows if rows else 1.0
        unplaced = reader.unplaced()
        self._refused[NOWHERE] = unplaced[: math.ceil(share * len(unplaced))]
        self.tables = {path: content_hash(path) for path in sorted(set(reader.tables))}
        texts = (u.source.text for found in self._found.values() for u in found)
        self.transcribed = all(text is not None for text in texts)

    def tokenizer(self, units: int) -> TokenizerCard:
        """Extend the tokenizer of the base model."""
        from raystt.preparation.tokenizer import build_pretrained

        assert self._config.tokenizer is not None
        return build_pretrained(self._config.tokenizer, units, self._corpus)

    def utterances(self, tasks: Tasks) -> Utterances:
        """Return what was found."""
        return self._found

    def refused(self, language: str, split: str) -> list[Quarantined]:
        """Return rows with bad text, or without a file."""
        return self._refused[language, split]


def _transcribed(
    found: list[Utterance], refused: list[Quarantined]
) -> tuple[list[Utterance], list[Quarantined]]:
    """Refuse the few rows without a transcript where the others have one."""
    with_text = [utterance for utterance in found if utterance.source.text is not None]
    if 2 * len(with_text) < len(found):
        return found, refused
    bare = [
        Quarantined(u.language, u.split, u.id, u.source.audio, "no source text, as others have")
        for u in found
        if u.source.text is None
    ]
    return with_text, refused + bare


class Embedded:
    """Sentences of the embedded corpus.

    Raises:
        PrepareError: its grammar cannot give what the config asks.
    """

    tables: dict[str, str] = {}
    transcribed = True

    def __init__(self, corpus: Path, config: CorpusConfig, progress: Progress) -> None:
        self._corpus, self._config, self._progress = corpus, config, progress
        self._reader = EmbeddedReader(config)
        self.pairs: dict[tuple[str, str], list[TextPair]] = {
            (language, split): self._reader.pairs(language, split)
            for language in sorted(config.languages)
            for split in (*SPLITS, "text")
        }

    def tokenizer(self, units: int) -> TokenizerCard:
        """Write the tokenizer of all words of the grammar."""
        from raystt.preparation.tokenizer import build_words

        return build_words(self._reader.words(), units, self._corpus)

    def write_text(self, tokenizer: TokenizerCard) -> None:
        """Write the text-only split, which the base model is trained on."""
        from raystt.preparation.tokenizer import TextTokenizer

        words = TextTokenizer(self._corpus / tokenizer.path)
        for n, language in enumerate(sorted(self._config.languages), 1):
            for entry, pairs in self._text_shards(language):
                if not (self._corpus / entry.path).exists():
                    texts = [
                        text_row(pair.id, language, (pair.source, pair.target), words)
                        for pair in pairs
                    ]
                    write_shard(texts, self._corpus / entry.path)
            self._progress("text", n, len(self._config.languages))

    def text_shards(self, language: str) -> list[ShardEntry]:
        """Return the shards of the text-only split."""
        return [entry for entry, _ in self._text_shards(language)]

    def _text_shards(self, language: str) -> Iterator[tuple[ShardEntry, list[TextPair]]]:
        pairs, most = self.pairs[language, "text"], self._config.shard_rows
        folder = split_directory(language, "text")
        for number, start in enumerate(range(0, len(pairs), most)):
            part = pairs[start : start + most]
            yield ShardEntry(f"{folder}/part-{number:05d}.parquet", len(part)), part

    def utterances(self, tasks: Tasks) -> Utterances:
        """Have every sentence spoken that was not yet."""
        corpus, config = self._corpus, self._config
        for language, split in spoken_splits(config):
            pairs = self.pairs[language, split]
            for start in range(0, len(pairs), speak.PAIRS):
                part = pairs[start : start + speak.PAIRS]
                done = speak.part_path(corpus, language, split, start).exists()
                args = (corpus, config, language, split, start, part)
                tasks.add("speech", speak.speak, *args, amount=len(part), done=done)
        tasks.wait()
        return {
            (language, split): speak.spoken(corpus, language, split, self.pairs[language, split])
            for language, split in spoken_splits(config)
        }

    def refused(self, language: str, split: str) -> list[Quarantined]:
        """Return nothing: the grammar makes no bad rows."""
        return []


def spoken_splits(config: CorpusConfig) -> list[tuple[str, str]]:
    """Return (language, split), sorted: the order in which a YAML names languages is no matter."""
    return [(language, split) for language in sorted(config.languages) for split in SPLITS]
