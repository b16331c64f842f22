"""`results.jsonl` and `failures.jsonl`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from made import diverged, result

from raystt.lines import append, read, read_failures
from raystt.ranking import best, dataframe, latest
from raystt.results import Failure, Result, ResultsError
from tests.fuzz.harness import damaged, fuzzed, outcome, relined, restructured
from tests.fuzz.tables import TOKENS, VALUES, dumped

_IDENTITY = {"language": "es", "trial": 3, "reference": None, "seed": 1, "overrides": {}}


def _written(*records: Result | Failure) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        for record in records:
            append(Path(directory, "lines"), record)
        return Path(directory, "lines").read_bytes()


_CHOSEN = {"schedule.shape": "linear", "training.steps": 10, "interleaving.modality_tokens": True}
_RESULTS = _written(
    result(0, 10.0, reference="none"),
    result(1, 20.0, overrides=_CHOSEN, chrf=40.0, signatures={"chrf": "nc:6"}),
    diverged(2),
    result(1, 19.0, split="test", states=("a", "b")),
)
_FAILURES = _written(Failure(**_IDENTITY, error="disk full\nTraceback", time=12.5))


def used(path: Path) -> list[Result]:
    """Read results, and do with them what the tables do."""
    found = read(path)
    best(latest(found), "asr_bleu")
    for split in {one.split for one in found}:
        dataframe(found, split=split, objective="asr_bleu")
    return found


def lines(whole: bytes) -> st.SearchStrategy[bytes]:
    records = [json.loads(line) for line in whole.splitlines()]
    return (
        restructured(records, VALUES).map(lambda rows: b"".join(dumped(r) + b"\n" for r in rows))
        | relined([whole], TOKENS)
        | damaged([whole], TOKENS)
    )


@fuzzed
@given(data=lines(_RESULTS))
@example(data=_RESULTS + b"[" * 100_000)
@example(data=_RESULTS + b"1" * 5000)
@example(data=_RESULTS.replace(b":20.0,", b":NaN,"))
@example(data=_RESULTS.replace(b'"training.steps":10', b'"training.steps":Infinity'))
@example(data=_RESULTS.replace(b'"a","b"', b'"..",""'))
@example(data=_RESULTS.replace(b'"trial":1', b'"trial":-1'))
@example(data=_RESULTS.replace(b'["a","b"]', b"[]"))
def test_results(tmp_path: Path, data: bytes) -> None:
    path, again = tmp_path / "results.jsonl", tmp_path / "again.jsonl"
    path.write_bytes(data)
    found = outcome("results.jsonl", lambda: used(path), ResultsError, [path])
    if found is not None:
        again.unlink(missing_ok=True)
        for one in found:
            append(again, one)
        assert read(again) == found
        append(path, result(9, 30.0))
        assert read(path) == [*found, result(9, 30.0)]


@fuzzed
@given(data=lines(_FAILURES))
def test_failures(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "failures.jsonl"
    path.write_bytes(data)
    outcome("failures.jsonl", lambda: read_failures(path), ResultsError, [path])
