"""Text tables of a corpus, read line by line, so that a bad line costs one row and no more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from raystt.errors import BadInput


class ReaderError(BadInput):
    """A corpus is not where or what the config says; the text names the place and the fix."""


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        number: its line, the first is 1.
        values: one text a column that was asked for; "" where the row or the column has none.
        fault: what is wrong with the line, or None. The values of a faulty one are a guess.
    """

    number: int
    values: Sequence[str]
    fault: str | None


def read_lines(path: str, fix: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield line number, text and fault of every line that is not blank.

    Args:
        path: a text file, in UTF-8 with or without a byte order mark.
        fix: what to do if there is no such file.

    Raises:
        ReaderError: the file cannot be opened, or is a pipe or the like: it is read twice.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ReaderError(f"{path}: not a regular file; {fix}")
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; only the opening may be refused
    except OSError as error:
        raise ReaderError(f"{path}: {error.strerror or error}; {fix}") from None
    with file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            raw = raw.rstrip(b"\r\n")
            if not raw.strip():
                continue
            try:
                yield number, raw.decode("utf-8"), None
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 (byte {error.start + 1} of the line)"
                yield number, raw.decode("utf-8", errors="replace"), reason


def read_table(
    path: str,
    columns: Sequence[str],
    *,
    fix: str,
    optional: Sequence[str] = (),
    header: bool = True,
    escapes: bool = False,
) -> Iterator[Row]:
    """Yield the rows of a TSV file. Quotes mean nothing in it: they are part of the text.

    Args:
        path: the file.
        columns: the columns wanted.
        fix: what to do if the file or a column is missing.
        optional: columns wanted that may be missing; they follow the others.
        header: whether the first line names the columns; else they are `columns`, in this order.
        escapes: whether a backslash stands before a character that is meant literally.

    Raises:
        ReaderError: there is no such file, or it has no such column.
    """
    lines = read_lines(path, fix)
    width, at = len(columns), list(range(len(columns)))
    if header:
        names = _fields(next(lines, (1, "", None))[1], escapes)
        for name in columns:
            if name not in names:
                found = ", ".join(names) if any(names) else "none"
                raise ReaderError(
                    f"{path}: there is no column {name!r} (columns in line 1: {found}); {fix}"
                )
        width = len(names)
        at = [names.index(name) if name in names else width for name in (*columns, *optional)]
    for number, text, fault in lines:
        fields = _fields(text, escapes)
        if len(fields) != width:
            fault = fault or f"{len(fields)} fields in place of {width}"
            fields += [""] * (width - len(fields))
        fields.append("")  # what a missing optional column holds
        yield Row(number, [fields[i] for i in at], fault)


def _fields(text: str, escapes: bool) -> list[str]:
    if not escapes or "\\" not in text:
        return text.split("\t")
    # An escaped tab belongs to its field: it gives way to a zero while the line is divided.
    plain = re.sub(r"\\(.?)", lambda found: "\0" if found[1] == "\t" else found[1], text)
    return [field.replace("\0", "\t") for field in plain.split("\t")]


def clean(text: str) -> str:
    """Collapse white space, and drop it at both ends."""
    return " ".join(text.split())


class Listing:
    """Which audio files there are; a folder is read once, which spares a call a file."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, os.DirEntry[str]]] = {}

    def fault(self, side: str, path: str) -> str | None:
        """Say why the audio of a side, an absolute path, cannot be read; None if it can."""
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            try:
                with os.scandir(folder or "/") as entries:
                    self._folders[folder] = {entry.name: entry for entry in entries}
            except (OSError, ValueError):  # ValueError: a zero byte in the name
                self._folders[folder] = {}
        entry = self._folders[folder].get(name)
        if entry is None:
            return f"no such {side} audio: {path}"
        try:
            regular = entry.is_file()
        except OSError:  # links in a circle
            regular = False
        return None if regular else f"the {side} audio is no regular file: {path}"
