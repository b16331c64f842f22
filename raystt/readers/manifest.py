"""The reader `manifest`: sentence pairs of a TSV or JSONL file, one a row."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from raystt.config.corpus import SPLITS
from raystt.readers.tables import (
    Listing,
    ReaderError,
    Row,
    clean,
    read_lines,
    read_table,
)
from raystt.readers.utterance import NOWHERE, Quarantined, Recording, Utterance, reasons

COLUMNS = ("id", "language", "source_audio", "target_audio", "target_text", "split")
OPTIONAL = ("source_text",)

_Place = tuple[str, str]  # language, split

_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell them, UTF-8 cannot


class ManifestReader:
    """Read sentence pairs from a manifest.

    The columns are `id`, `language` (of the source), `source_audio`, `source_text`,
    `target_audio`, `target_text` and `split` (train, dev or test); others are passed over. A TSV
    (`.tsv`) names them in its first line and has no quoting: a quote is part of the text. JSONL
    (`.jsonl`) has one object a line. Relative audio paths start at the manifest's own folder.
    A `source_text` that is empty, null or absent means that the source is not transcribed. Texts
    stay as they are, except that white space is collapsed.

    A row is quarantined if it is not UTF-8 or not JSON, has too many or too few fields, no id or
    target text, the id of an earlier row, or audio that is no file. One that does not even tell
    its language and split is `NOWHERE`.
    """

    def __init__(self, path: str, languages: Iterable[str], target: str) -> None:
        """Remember what to read; nothing is opened yet.

        Args:
            path: the file; `{language}` and `{target}` stand for the languages, where each source
                language has a manifest of its own.
            languages: source languages to read; rows of others are passed over.
            target: target language.
        """
        self._languages = tuple(languages)
        resolved = (
            path.replace("{language}", language).replace("{target}", target)
            for language in self._languages
        )
        self._paths = tuple(dict.fromkeys(resolved))
        self._found: dict[_Place, tuple[list[Utterance], list[Quarantined]]] | None = None
        self._held: Counter[_Place] = Counter()
        self.tables: list[str] = []

    def read(self, language: str, split: str) -> tuple[list[Utterance], list[Quarantined]]:
        """Return the usable rows of a split in file order, and the rows that are not usable.

        Ids are unique over all that this reader reads: of rows with the same one, the first is
        kept. No audio is decoded.

        Raises:
            ReaderError: the file is missing, of another kind or without a column, names another
                split, or has no row of this language and split.
        """
        if self._found is None:
            self._found = self._load()
        if (language, split) not in self._found:
            held = ", ".join(f"{of} {name} ({n})" for (of, name), n in sorted(self._held.items()))
            lost = reasons(self.unplaced())
            raise ReaderError(
                f"{', '.join(self._paths)}: there are no rows of language {language!r}, split "
                f"{split!r}; the rows are: {held or 'none'}"
                + (f"; not to be placed are: {lost}" if lost else "")
                + "; add rows of it, or correct corpus.languages"
            )
        utterances, quarantined = self._found[language, split]
        return list(utterances), list(quarantined)

    def unplaced(self) -> list[Quarantined]:
        """Return the rows that do not tell their language and split; `read` comes first."""
        assert self._found is not None
        return list(self._found[NOWHERE][1])

    def _load(self) -> dict[_Place, tuple[list[Utterance], list[Quarantined]]]:
        found: dict[_Place, tuple[list[Utterance], list[Quarantined]]] = {NOWHERE: ([], [])}
        ids: dict[str, str] = {}  # of the rows that are kept: where they are
        self._held = Counter()
        listing = Listing()
        for path in self._paths:
            self.tables.append(path)
            base = os.path.dirname(os.path.abspath(path))
            for (language, split), row in self._placed(path):
                utterances, quarantined = found.setdefault((language, split), ([], []))
                identity, _, source, target, text, _, source_text = map(clean, row.values)
                audio = [os.path.join(base, name) if name else "" for name in (source, target)]
                where = f"{path}:{row.number}"
                reason = row.fault or _fault(identity, text, audio, ids, listing)
                if reason:
                    quarantined.append(Quarantined(language, split, identity, where, reason))
                    continue
                ids[identity] = where
                sides = Recording(audio[0], source_text or None), Recording(audio[1], text)
                utterances.append(Utterance(identity, language, split, *sides))
        return found

    def _placed(self, path: str) -> Iterator[tuple[_Place, Row]]:
        """Yield the rows of the languages asked for, each with the split it counts with."""
        for row in _rows(path):
            place = language, split = clean(row.values[1]), clean(row.values[5])
            if row.fault:  # what it says is a guess
                place = place if language and split in SPLITS else NOWHERE
            elif not language or not split:
                row = row._replace(fault="no split" if language else "no language")
                place = NOWHERE if language in ("", *self._languages) else place
            elif split not in SPLITS:
                raise ReaderError(
                    f"{path}:{row.number}: split {split!r} is unknown; "
                    f"name the splits {', '.join(SPLITS)}"
                )
            else:
                self._held[place] += 1
            if place == NOWHERE or place[0] in self._languages:
                yield place, row


def _fault(
    identity: str, text: str, audio: list[str], ids: dict[str, str], listing: Listing
) -> str | None:
    if not identity:
        return "no id"
    if identity in ids:
        return f"the id is that of {ids[identity]}"
    if not text:
        return "no target text"
    for side, path in zip(("source", "target"), audio, strict=True):
        if not path:
            return f"no {side} audio"
        fault = listing.fault(side, path)
        if fault is not None:
            return fault
    return None


def _rows(path: str) -> Iterator[Row]:
    fix = f"give its columns as {', '.join(COLUMNS + OPTIONAL)}, or correct corpus.sources.manifest"
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".tsv":
        return read_table(path, COLUMNS, optional=OPTIONAL, fix=fix)
    if suffix == ".jsonl":
        return _read_jsonl(path, fix)
    raise ReaderError(
        f"{path}: a manifest is a .tsv or a .jsonl file; convert it, or correct "
        "corpus.sources.manifest"
    )


def _read_jsonl(path: str, fix: str) -> Iterator[Row]:
    known: set[str] = set()
    for number, line, fault in read_lines(path, fix):
        data: object = None
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):  # numbers, too, can have more digits than are read
            fault = fault or "not JSON"
        if not isinstance(data, dict):
            yield Row(number, [""] * len(COLUMNS + OPTIONAL), fault or "not a JSON object")
            continue
        known |= data.keys()
        values = []
        for name in COLUMNS + OPTIONAL:
            value = data.get(name)
            if value is not None and not isinstance(value, str):
                whole = isinstance(value, (dict, list))
                told = "a list or an object" if whole else json.dumps(value)
                fault = fault or f"{name} is {told}, not a text"
                value = None
            if value and _SURROGATE.search(value):
                fault = fault or f"{name} has half a character (an unpaired surrogate)"
                value = _SURROGATE.sub("\ufffd", value)
            values.append(value or "")
        yield Row(number, values, fault)
    # Only now is it known that no row has the column; a row alone may lack one.
    for name in COLUMNS:
        if known and name not in known:
            raise ReaderError(f"{path}: no row has {name!r}; {fix}")
