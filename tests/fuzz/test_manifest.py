"""Manifests, TSV and JSONL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raystt.config.corpus import SPLITS
from raystt.readers.manifest import COLUMNS, OPTIONAL, ManifestReader
from raystt.readers.tables import ReaderError
from tests.fuzz.harness import damaged, fuzzed, outcome, relined, restructured
from tests.fuzz.tables import TOKENS, VALUES, dumped, taken

_ROWS = [
    {
        "id": f"{language}-{split}-{number}",
        "language": language,
        "source_audio": f"audio/{number}.wav",
        "target_audio": "audio/0.wav",
        "target_text": f"words {number}",
        "split": split,
        "source_text": "" if number == 1 else f"palabras {number}",
    }
    for language in ("es", "de")
    for split in SPLITS
    for number in range(3)
]
_LINES = ["\t".join((*COLUMNS, *OPTIONAL)), *("\t".join(row.values()) for row in _ROWS)]
_TSV = "".join(f"{line}\n" for line in _LINES).encode()
_JSONL = "".join(json.dumps(row) + "\n" for row in _ROWS).encode()


def _dumped(rows: list[Any]) -> bytes:
    return b"".join(dumped(row) + b"\n" for row in rows)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    for number in range(3):
        (tmp_path / f"audio/{number}.wav").touch()
    return tmp_path


def check(root: Path, name: str, data: bytes) -> None:
    path = root / name
    path.write_bytes(data)
    reader = ManifestReader(str(path), ("es", "de"), "en")
    ids = outcome(f"manifest {path.suffix}", lambda: taken(reader, ("es", "de"), root),
                  ReaderError, [path])  # fmt: skip
    assert ids is None or len(set(ids)) == len(ids)


@fuzzed
@given(data=relined([_TSV], TOKENS) | damaged([_TSV], TOKENS) | st.binary(max_size=200))
@example(data=_TSV.replace(b"audio/1", b"au\0dio/1"))
def test_tsv(root: Path, data: bytes) -> None:
    check(root, "pairs.tsv", data)


@fuzzed
@given(
    data=relined([_JSONL], TOKENS)
    | damaged([_JSONL], TOKENS)
    | restructured(_ROWS, VALUES).map(_dumped)
)
@example(data=_JSONL + b'{"id": 1%s}\n' % (b"0" * 5000))
@example(data=_JSONL.replace(b"audio/1", b"a\\u0000/1"))
@example(data=_JSONL + b'{"id": ' + b"[" * 990 + b"]" * 990 + b"}\n")
@example(data=_JSONL + b"[" * 100_000)
def test_jsonl(root: Path, data: bytes) -> None:
    check(root, "pairs.jsonl", data)
