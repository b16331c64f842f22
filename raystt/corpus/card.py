"""The corpus card: what a prepared corpus directory holds.

`card.json` is written last, so its presence means that the corpus is complete. All paths in it are
relative to the directory it lies in; a corpus may be moved or copied as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from raystt.errors import BadInput
from raystt.files import write_atomic

FORMAT = 2
FILE_NAME = "card.json"


class CardError(BadInput, ValueError):
    """A corpus card that is missing, damaged or inconsistent; the text names file and fix."""


@dataclass(frozen=True)
class ShardEntry:
    """One Parquet file of a split: `path` relative to the corpus, `rows` its sentence pairs."""

    path: str
    rows: int


@dataclass(frozen=True)
class SplitCard:
    """Counts of one split of one language; hours are of audio, units are after deduplication.

    `quarantined` rows of the source are not among the pairs; `quarantine.jsonl` says why.
    """

    pairs: int
    quarantined: int
    source_hours: float
    target_hours: float
    source_words: int
    target_words: int
    source_units: int
    target_units: int
    shards: tuple[ShardEntry, ...]


@dataclass(frozen=True)
class TokenizerCard:
    """Text tokenizer and the ids that frame a sequence.

    Token ids below `text_vocabulary` are text (the special ids among them); unit `u` is token
    `unit_offset + u`. The base model knows the ids below `base_vocabulary`; those from there on
    were added to its tokenizer and start without training. `mask` stands for units in the mask
    control; `speech` and `text` are the modality tokens.
    """

    path: str
    text_vocabulary: int
    unit_offset: int
    base_vocabulary: int
    bos: int
    separator: int
    eos: int
    pad: int
    mask: int
    speech: int
    text: int


@dataclass(frozen=True)
class CodebookCard:
    """One codebook: its file, its number of clusters, and the unit id of its first cluster."""

    path: str
    clusters: int
    offset: int


@dataclass(frozen=True)
class UnitsCard:
    """Speech units over both codebooks; `frame_seconds` is what a duration of 1 lasts."""

    total: int
    frame_seconds: float
    deduplicated: bool
    encoder: str
    source: CodebookCard
    target: CodebookCard


@dataclass(frozen=True)
class Part:
    """A registered component (vocoder, recogniser): registry name and saved state.

    `path` is relative to the corpus; a component that is not fitted to it has an empty one.
    """

    name: str
    path: str


@dataclass(frozen=True)
class Card:
    """Description of a prepared corpus, see `docs` of the fields' own classes.

    `fingerprint` is a hash of the corpus config and of the bytes of every shard; `config` is that
    config as it was (without the directory's own path). Without `transcribed`, no source speech
    has text. `asr` and `base` are what was fitted to the corpus, None where pretrained models are
    used.
    """

    reader: str
    fingerprint: str
    config: dict[str, Any]
    sample_rate: int
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
        return [Path(directory) / p for p in promised if not (Path(directory) / p).exists()]

    def save(self, directory: Path | str) -> None:
        """Write `directory/card.json` atomically."""
        write_atomic(
            Path(directory) / FILE_NAME, json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        )

    @classmethod
    def load(cls, directory: Path | str) -> Card:
        """Read `directory/card.json`.

        Raises:
            CardError: no card, not JSON, another format, or a missing, unknown or mistyped key.
        """
        path = Path(directory) / FILE_NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CardError(
                f"{path}: there is no corpus card; run `raystt prepare` to build the corpus "
                "(it continues where it stopped), or correct `corpus.path`"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CardError(
                f"{path}: not valid JSON ({error}); delete the file and run `raystt prepare` again"
            ) from error
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise CardError(
                f"{path}: format: this version reads format {FORMAT}, the card says {found!r}; "
                "prepare the corpus again in a new directory"
            )
        try:
            return cast(Card, _decode(cls, data, ""))
        except _Mismatch as error:
            raise CardError(
                f"{path}: {error}; restore the file, or delete it and run `raystt prepare` again"
            ) from None


class _Mismatch(Exception):
    pass


def _decode(kind: Any, value: Any, key: str) -> Any:
    """Build `kind` (dataclass, dict, tuple or scalar) from parsed JSON, strictly."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise _Mismatch(f"{key}: expected a mapping, found {value!r}")
        hints = typing.get_type_hints(kind)
        prefix = f"{key}." if key else ""
        for name in value:
            if name not in hints:
                raise _Mismatch(f"{prefix}{name}: unknown key")
        needed = [f.name for f in dataclasses.fields(kind)]
        for name in needed:
            if name not in value:
                raise _Mismatch(f"{prefix}{name}: missing key")
        return cast(Any, kind)(
            **{name: _decode(hints[name], value[name], f"{prefix}{name}") for name in needed}
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise _Mismatch(f"{key}: expected a mapping, found {value!r}")
        item = typing.get_args(kind)[1]
        return {name: _decode(item, v, f"{key}.{name}") for name, v in value.items()}
    if origin is tuple:
        items = typing.get_args(kind)
        if not isinstance(value, list):
            raise _Mismatch(f"{key}: expected a list, found {value!r}")
        if items[-1] is Ellipsis:
            return tuple(_decode(items[0], v, f"{key}[{i}]") for i, v in enumerate(value))
        if len(value) != len(items):
            raise _Mismatch(f"{key}: expected {len(items)} values, found {len(value)}")
        pairs = zip(items, value, strict=True)
        return tuple(_decode(k, v, f"{key}[{i}]") for i, (k, v) in enumerate(pairs))
    if kind is Any:
        return value
    if isinstance(kind, types.UnionType):
        plain = next(part for part in typing.get_args(kind) if part is not type(None))
        return None if value is None else _decode(plain, value, key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _Mismatch(f"{key}: expected {kind.__name__}, found {value!r}")
    return value
