"""Files of results and failures, a JSON line each, that survive a kill at any instant.

A line is written by a single `write` and synced; a last line torn by a crash is dropped by the next
reader and writer.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from raystt.results import Failure, Proposal, Result, ResultsError

_RESULT, _FAILURE = TypeAdapter(Result), TypeAdapter(Failure)
_OBJECT = TypeAdapter(dict[str, Any])


def checked(result: Result) -> Result:
    """Return a result as it would be read from its line.

    Raises:
        ValueError: It would be refused.
    """
    return _RESULT.validate_json(_RESULT.dump_json(result, warnings=False))


def append(path: str | os.PathLike[str], record: Result | Failure) -> None:
    """Append one line and sync it; drops a line torn by an earlier crash first.

    There is one writer at a time: the driver of the search.

    Raises:
        ValueError: A value is not finite (a diverged trial is scored 0, not NaN).
        OSError: The file system refused.
    """
    kind = _RESULT if isinstance(record, Result) else _FAILURE
    values = kind.dump_python(record, mode="json")  # type: ignore[arg-type]
    line = json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            kept = _without_torn_line(os.pread(descriptor, size, 0))
            os.ftruncate(descriptor, len(kept))
            if kept and not kept.endswith(b"\n"):
                line = "\n" + line
        data = line.encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, "the line was not written whole", str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str | os.PathLike[str]) -> list[Result]:
    """Read all results in order; a torn last line is left out, a missing file is no result.

    Raises:
        ResultsError: A line other than a torn last one is no result.
    """
    return _read(Path(path), _RESULT)


def read_failures(path: str | os.PathLike[str]) -> list[Failure]:
    """Read `failures.jsonl` likewise.

    Raises:
        ResultsError: A line other than a torn last one is no failure.
    """
    return _read(Path(path), _FAILURE)


def objects(path: Path) -> list[dict[str, Any]]:
    """Read the JSON object of each line of a file; a torn last line is left out, as in `read`.

    Raises:
        ResultsError: Another line is no JSON object.
    """
    data = path.read_bytes() if path.exists() else b""
    found = []
    # Not `str.splitlines`: a text may hold a line separator of Unicode, which JSON leaves as it is.
    for number, line in enumerate(_without_torn_line(data).splitlines(), start=1):
        try:
            found.append(_OBJECT.validate_json(line))
        except ValidationError:
            raise ResultsError(f"{path}:{number}: the line is damaged; delete the file") from None
    return found


def salvage(path: Path, accept: Callable[[Proposal], bool]) -> tuple[list[str], list[int]]:
    """Return the lines of a file of results or failures that can be used, and numbers of others.

    A torn last line is neither: it is dropped by who writes next.

    Args:
        path: The file.
        accept: Says whether a result or a failure can be one of the search.
    """
    data = path.read_bytes() if path.exists() else b""
    kind: TypeAdapter[Any] = _FAILURE if path.name.startswith("failures") else _RESULT
    lines, bad = [], []
    for number, line in enumerate(_without_torn_line(data).splitlines(), start=1):
        try:
            text, record = line.decode(), kind.validate_json(line)
        except (ValidationError, UnicodeDecodeError):
            bad.append(number)
            continue
        if accept(record):
            lines.append(text)
        else:
            bad.append(number)
    return lines, bad


def _read(path: Path, kind: TypeAdapter[Any]) -> list[Any]:
    data = path.read_bytes() if path.exists() else b""
    found = []
    for number, line in enumerate(_without_torn_line(data).splitlines(), start=1):
        try:
            found.append(kind.validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise ResultsError(
                f"{path}:{number}: {where}: {first['msg']}; it was written by another version of "
                "raystt or damaged: delete the line to go on without it"
            ) from None
    return found


def _without_torn_line(data: bytes) -> bytes:
    """Drop an unterminated last line, unless all but its newline was written."""
    end = data.rfind(b"\n") + 1
    try:
        json.loads(data[end:])
    except (ValueError, RecursionError):
        return data[:end]
    return data
