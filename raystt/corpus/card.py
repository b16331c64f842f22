"""The corpus card: what a prepared corpus directory holds.

`card.json` is written last, so its presence means that the corpus is complete. All paths in it are
relative to the directory it lies in; a corpus may be moved or copied as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from raystt import remote
from raystt.errors import BadInput
from raystt.files import write_atomic

FORMAT = 3
FILE_NAME = "card.json"

SideName = Literal["source", "target"]
SIDES: tuple[SideName, ...] = ("source", "target")

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Count = Annotated[int, Field(ge=0)]
Id = Annotated[int, Field(ge=0, lt=2**31)]  # what shards and batches hold
Amount = Annotated[float, Field(ge=0)]


class CardError(BadInput, ValueError):
    """A corpus card that is missing, damaged or inconsistent; the text names file and fix."""


@dataclass(frozen=True, config=_STRICT)
class ShardEntry:
    """One Parquet file of a split: `path` relative to the corpus, `rows` its sentence pairs."""

    path: str
    rows: Count


@dataclass(frozen=True, config=_STRICT)
class SideCard:
    """Counts of one side of a split; hours are of audio, units are after deduplication."""

    hours: Amount
    words: Count
    units: Count


@dataclass(frozen=True, config=_STRICT)
class SplitCard:
    """Counts of one split of one language.

    `quarantined` rows of the reader are not among the pairs; `quarantine.jsonl` says why.
    """

    pairs: Count
    quarantined: Count
    source: SideCard
    target: SideCard
    shards: tuple[ShardEntry, ...]


@dataclass(frozen=True, config=_STRICT)
class TokenizerCard:
    """Text tokenizer and the ids that frame a sequence.

    Token ids below `text_vocabulary` are text (the special ids among them); unit `u` is token
    `unit_offset + u`. The base model knows the ids below `base_vocabulary`; those from there on
    were added to its tokenizer and start without training. `mask` stands for units in the mask
    control; `speech` and `text` are the modality tokens.
    """

    path: str
    text_vocabulary: Id
    unit_offset: Id
    base_vocabulary: Id
    bos: Id
    separator: Id
    eos: Id
    pad: Id
    mask: Id
    speech: Id
    text: Id


@dataclass(frozen=True, config=_STRICT)
class CodebookCard:
    """One codebook: its file, its number of clusters, and the unit id of its first cluster."""

    path: str
    clusters: Id
    offset: Id


@dataclass(frozen=True, config=_STRICT)
class UnitsCard:
    """Speech units over both codebooks; `frame_seconds` is what a duration of 1 lasts."""

    total: Id
    frame_seconds: Amount
    deduplicated: bool
    encoder: str
    source: CodebookCard
    target: CodebookCard


@dataclass(frozen=True, config=_STRICT)
class Part:
    """A registered component (vocoder, recogniser): registry name and saved state.

    `path` is relative to the corpus; a component that is not fitted to it has an empty one.
    """

    name: str
    path: str


@dataclass(frozen=True, config=_STRICT)
class Card:
    """Description of a prepared corpus, see `docs` of the fields' own classes.

    `fingerprint` is a hash of the corpus config and of the bytes of every shard; `config` is that
    config as it was (without the directory's own path); `tables` are the hashes of the files that
    named the recordings, by path, and `unplaced` their rows that tell no language and split.
    Without `transcribed`, no source speech has text. `asr` and `base` are what was fitted to the
    corpus, None where pretrained models are used.
    """

    reader: str
    fingerprint: str
    config: dict[str, Any]
    tables: dict[str, str]
    unplaced: Count
    sample_rate: Count
    target_language: str
    languages: dict[str, dict[str, SplitCard]]
    transcribed: bool
    tokenizer: TokenizerCard
    units: UnitsCard
    vocoder: Part
    asr: Part | None
    base: str | None
    format: int = FORMAT

    @property
    def vocabulary(self) -> int:
        """Size of the whole vocabulary: text, special tokens and units."""
        return self.tokenizer.text_vocabulary + self.units.total

    def split(self, language: str, split: str) -> SplitCard:
        """Return the counts of a split.

        Raises:
            CardError: the language or the split is not in the corpus.
        """
        if language not in self.languages:
            raise CardError(
                f"the corpus has no language {language!r}; it holds {', '.join(self.languages)}"
            )
        splits = self.languages[language]
        if split not in splits:
            raise CardError(
                f"the corpus has no split {split!r} of {language!r}; it holds {', '.join(splits)}"
            )
        return splits[split]

    def missing(self, directory: Path | str) -> list[Path]:
        """List the files and directories the card promises and `directory` does not hold."""
        promised = [
            shard.path
            for splits in self.languages.values()
            for split in splits.values()
            for shard in split.shards
        ]
        promised += [self.tokenizer.path, self.units.source.path, self.units.target.path]
        promised += [self.vocoder.path] if self.vocoder.path else []
        promised += [self.asr.path] if self.asr else []
        promised += [self.base] if self.base else []
        paths = [Path(directory) / name for name in promised]
        return [path for path in paths if not os.path.exists(path)]  # also where no path can be

    def save(self, directory: Path | str) -> None:
        """Write `directory/card.json` atomically."""
        write_atomic(
            Path(directory) / FILE_NAME, json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        )

    @classmethod
    def of_corpus(cls, directory: Path) -> Card:
        """Read the card of a corpus; a copy of one in an object store is brought up to date.

        Raises:
            CardError: as `load`.
        """
        remote.fetch(directory, FILE_NAME)
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path | str) -> Card:
        """Read `directory/card.json`.

        Raises:
            CardError: no card, not JSON, another format, or a missing, unknown or mistyped key.
        """
        path = Path(directory) / FILE_NAME
        try:
            text = path.read_bytes()
            data = _JSON.validate_json(text)
        except FileNotFoundError:
            raise CardError(
                f"{path}: there is no corpus card; run `raystt prepare` to build the corpus "
                "(it continues where it stopped), or correct `corpus.path`"
            ) from None
        except OSError as error:
            raise CardError(f"{path}: cannot be read ({error}); correct `corpus.path`") from None
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise CardError(
                f"{path}: not valid JSON ({reason}); delete the file and run `raystt prepare` again"
            ) from None
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise CardError(
                f"{path}: format: this version reads format {FORMAT}, the card says {found!r}; "
                "prepare the corpus again in a new directory"
            )
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise CardError(
                f"{path}: {_complaint(error)}; restore the file, or delete it and run "
                "`raystt prepare` again"
            ) from None


_ADAPTER = TypeAdapter(Card)
_JSON: TypeAdapter[Any] = TypeAdapter(Any)


def _complaint(error: ValidationError) -> str:
    """Word the first thing that is wrong with a card: `key[index].key: reason`."""
    first = error.errors(include_url=False)[0]
    key = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        return f"{key}: missing key"
    if first["type"] == "unexpected_keyword_argument":
        return f"{key}: unknown key"
    return f"{key}: {first['msg']}, found {first['input']!r}"
