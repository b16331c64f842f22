"""What may stand in a line of a table or of JSON, and what becomes of the rows of a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from raystt.config.corpus import SPLITS
from raystt.preparation.quality import Quarantine
from raystt.readers.recordings import Reader, subset
from raystt.readers.utterance import audio_path

TOKENS = (
    *(b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\\", b"\\\t", b"\\\\", b'"', b"'", b" ", b"\x0b"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *("\u2028\u00a0\u200b\u202e\U0001f600".encode(), b"e\xcc\x81" * 200, b"a" * 5000, b"\x1a"),
    *(b"/", b"//", b"..", b"../", b"/dev/zero", b"/dev/stdin", b"~", b"a/\0/b", b"\0/x"),
    *(b"{language}", b"train", b"dev", b"validation", b"es", b"de", b"", b"{", b"}", b"[", b"]"),
    *(b"null", b"1", b"1" * 5000, b"1e999", b"NaN", b"Infinity", b"true", b",", b":", b"x" * 300),
    *(b'"\\ud800"', b'"\\u0000"', b"[" * 2000, b'{"a":' * 2000, b"[" * 900 + b"]" * 900),
    *(b'{"id": 1}', b"{}", b"[]"),
)


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from(("\ud800", "\udfff x", "a\0/b", "\0", "/", "..", "train", "x" * 5000)),
    st.sampled_from((10**4400, -(2**63), 2**64, 2**31, 0, 0.0, 1e308, "nan", "1", "es")),
    st.recursive(st.none(), lambda deeper: st.lists(deeper, max_size=2), max_leaves=4),
    st.dictionaries(st.text(max_size=3), st.integers() | st.none(), max_size=2),
)  # fmt: skip
"""What may stand in JSON in place of a value."""


def dumped(data: Any) -> bytes:
    """Write JSON, also that which Python would not read."""
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(data).encode()
    finally:
        sys.set_int_max_str_digits(digits)


def taken(reader: Reader, languages: tuple[str, ...], directory: Path) -> list[str]:
    """Read all splits of all languages as `prepare` does; return the ids."""
    ids = []
    for language in languages:
        for split in SPLITS:
            utterances, bad = reader.read(language, split)
            quarantine = Quarantine(directory / "quarantine.jsonl")
            for row in [*bad, *reader.unplaced()]:
                quarantine.add(row)
            quarantine.write()
            for one in subset(utterances, 2):
                assert Path(one.source.audio).is_file() and Path(one.target.audio).is_file()
                assert one.id and one.target.text
                for side in ("source", "target"):
                    audio_path(directory, language, split, one.id, side).exists()
            ids += [one.id for one in utterances]
    return ids
