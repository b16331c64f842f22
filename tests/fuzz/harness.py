"""What all readers are held to: a valid object or their own error, and never a hang.

`make fuzz` gives each test 10,000 inputs, new ones each time; the usual run of the tests a few, the
same each time.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T")

INPUTS = int(os.environ.get("FUZZ_INPUTS", "30"))
MANY = INPUTS > 100
PATIENCE = 20
"""Seconds after which an input counts as a hang."""

COUNTS: dict[str, Counter[str]] = {}
"""What became of the inputs of each reader."""

STDERR: list[TextIO] = [sys.stderr]
"""Where a hang within a library is told: what pytest captures would be lost with the process."""


def fuzzed(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test of hypothesis with as many inputs as asked; each has its own limit of time."""
    found = settings(
        max_examples=INPUTS,
        derandomize=not MANY,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )(test)
    return pytest.mark.slow(pytest.mark.timeout(0)(found))


class Hang(Exception):
    """An input that kept a reader for longer than `PATIENCE`; pydantic would take a ValueError."""


@contextmanager
def _patience() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"not read within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, stop)
    # Again each second: what is raised while garbage is collected is dropped.
    signal.setitimer(signal.ITIMER_REAL, PATIENCE, 1)
    # A library that loops in C hears no signal: then the whole run ends, with the place.
    faulthandler.dump_traceback_later(3 * PATIENCE, exit=True, file=STDERR[0])
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(
    reader: str, read: Callable[[], T], error: type[Exception], names: Sequence[Any]
) -> T | None:
    """Return what a reader makes of an input; None where it refuses it as it should.

    Args:
        reader: Its name, for the count.
        read: Reads, and does with the object what its users do first.
        error: What the reader refuses with; anything else fails the test.
        names: The error's text names one of these, and can be printed.
    """
    count = COUNTS.setdefault(reader, Counter())
    count["inputs"] += 1
    with _patience():
        try:
            found = read()
        except error as refused:
            text = str(refused)
            text.encode()
            assert any(str(name) in text for name in names), text
            count["refused"] += 1
            return None
    count["read"] += 1
    return found


_FEW = st.sampled_from((1, 1, 1, 1, 2, 3, 6))  # what is only a little wrong goes deepest


@st.composite
def damaged(draw: st.DrawFn, wholes: Sequence[bytes], tokens: Sequence[bytes] = (b"\0",)) -> bytes:
    """Draw one of `wholes` with bytes flipped, cut off, dropped, doubled, moved or put in."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(_FEW)):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(("flip", "byte", "cut", "drop", "double", "move", "token")))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << size % 8
        elif kind == "byte" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + size]
        elif kind == "double":
            data[at:at] = data[at : at + size]
        elif kind == "move":
            moved = data[at : at + size]
            del data[at : at + size]
            to = draw(st.integers(0, len(data)))
            data[to:to] = moved
        elif kind == "token":
            data[at : at + draw(st.integers(0, 8))] = draw(st.sampled_from(tokens))
    return bytes(data)


@st.composite
def relined(draw: st.DrawFn, wholes: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Draw one of `wholes` with lines dropped, doubled, moved, cut, or with a token in them."""
    lines = draw(st.sampled_from(wholes)).splitlines(keepends=True)
    for _ in range(draw(_FEW)):
        if not lines:
            break
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(("drop", "double", "move", "cut", "token", "end", "bytes")))
        if kind == "drop":
            del lines[at]
        elif kind == "double":
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
        elif kind == "move":
            line = lines.pop(at)
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif kind == "cut":
            lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
        elif kind == "end":
            lines[at] = lines[at].rstrip(b"\r\n") + draw(st.sampled_from(tokens)) + b"\n"
        else:
            put = draw(st.sampled_from(tokens) if kind == "token" else st.binary(max_size=8))
            to = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:to] + put + lines[at][to + draw(st.integers(0, 12)) :]
    return b"".join(lines)


@st.composite
def restructured(draw: st.DrawFn, whole: Any, values: st.SearchStrategy[Any]) -> Any:
    """Draw plain data with keys dropped, renamed, moved, and values changed or nested."""
    whole = _copied(whole)
    for _ in range(draw(_FEW)):
        places = list(_places(whole))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(("value", "value", "drop", "rename", "nest", "swap", "copy")))
        other, name = draw(st.sampled_from(places))
        if kind == "value":
            holder[key] = draw(values)
        elif kind == "drop":
            del holder[key]
        elif kind == "nest":
            wrapped = holder[key]
            holder[key] = draw(st.sampled_from(([wrapped], {"x": wrapped}, [wrapped, wrapped])))
        elif kind == "rename" and isinstance(holder, dict):
            holder[draw(st.text(max_size=6) | st.just(str(key) + "s"))] = holder.pop(key)
        elif kind in ("swap", "copy"):
            copied = _copied(other[name])
            if kind == "swap":
                other[name] = _copied(holder[key])
            holder[key] = copied
    return whole


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of nested mappings and lists, as what holds it and its key there."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in pairs:
        yield data, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _copied(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data
