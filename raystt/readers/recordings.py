"""The utterances of a corpus of recordings, and which of them a config asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raystt.config import CorpusConfig
from raystt.interleaving.rules import utterance_key
from raystt.readers.cvss import CvssReader
from raystt.readers.manifest import ManifestReader
from raystt.readers.utterance import Quarantined, Utterance


class Reader(Protocol):
    """What `prepare` needs of a reader of recordings.

    Attributes:
        tables: the files that it has read.
    """

    tables: list[str]

    def read(self, language: str, split: str) -> tuple[list[Utterance], list[Quarantined]]:
        """Return the rows of a split in the order of the file, and those that are no use."""
        ...

    def unplaced(self) -> list[Quarantined]:
        """Return the rows that say of no language and split that they are its."""
        ...


def open_reader(config: CorpusConfig) -> Reader:
    """Open the recordings that a config names.

    Raises:
        ReaderError: the files are not there, or not what they should be.
    """
    sources = config.sources
    if config.reader == "manifest":
        assert sources.manifest is not None
        return ManifestReader(sources.manifest, config.languages, config.target)
    assert sources.common_voice is not None
    assert sources.covost is not None
    assert sources.cvss is not None
    return CvssReader(sources.common_voice, sources.covost, sources.cvss, config.target)


def subset(utterances: Sequence[Utterance], pairs: int | None) -> list[Utterance]:
    """Take so many utterances, drawn by their ids alone, and keep them in order.

    Corpora are sorted by speaker or by topic: the first ones would be all of a kind.
    """
    if pairs is None or pairs >= len(utterances):
        return list(utterances)
    drawn = sorted(range(len(utterances)), key=lambda i: utterance_key(utterances[i].id))[:pairs]
    return [utterances[index] for index in sorted(drawn)]
