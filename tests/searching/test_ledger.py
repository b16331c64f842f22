"""Which models stay while a search runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import result
from tiny import tiny_search

from raystt.results import Result
from raystt.searching.claim import claimed
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger


def models(directory: RunDirectory) -> set[str]:
    return {path.name for path in directory.states.iterdir()}


def finish(ledger: Ledger, directory: RunDirectory, one: Result) -> None:
    (directory.states / one.states[-1]).mkdir()
    ledger.scored(one.proposal(), one.report())


def trial(number: int, score: float, **changes: Any) -> Result:
    return result(
        number, score, overrides={"schedule.end": 0.5 + number / 100}, states=(f"s{number}",),
        **changes,
    )  # fmt: skip


def test_what_may_be_chosen_stays_and_the_rest_goes_as_it_is_overtaken(tmp_path: Path) -> None:
    search = tiny_search(tmp_path, confirm={"top": 2, "seeds": 2}, trials=9)
    with claimed(search, resume=False, overwrite=False) as directory:
        ledger = Ledger(search, directory, print)
        finish(ledger, directory, trial(0, 20.0, reference="paper"))
        for number, score in ((1, 5.0), (2, 9.0), (3, 7.0)):
            finish(ledger, directory, trial(number, score))
        assert models(directory) == {"s0", "s2", "s3"}
        # One that is run again, and would find its model, keeps it as long as it runs.
        running = [trial(3, 0.0).proposal()]
        ledger.running = lambda: running
        finish(ledger, directory, trial(4, 8.0))
        assert models(directory) == {"s0", "s2", "s3", "s4"}
        running.clear()
        finish(ledger, directory, trial(5, 1.0))
        assert models(directory) == {"s0", "s2", "s4"}
    with claimed(search, resume=True, overwrite=False) as directory:
        (directory.states / "s1").mkdir()  # as a kill between score and deletion leaves it
        again = Ledger(search, directory, print)
        finish(again, directory, trial(6, 30.0))
        assert models(directory) == {"s0", "s2", "s6"}


@pytest.mark.slow
@settings(max_examples=30)
@given(st.lists(st.integers(0, 4).map(float), max_size=12))
def test_what_stays_is_what_a_look_at_all_results_would_keep(scores: list[float]) -> None:
    with tempfile.TemporaryDirectory() as place:
        search = tiny_search(Path(place), confirm={"top": 2, "seeds": 2}, trials=20)
        with claimed(search, resume=False, overwrite=False) as directory:
            ledger = Ledger(search, directory, print)
            finish(ledger, directory, trial(0, 2.0, reference="paper"))
            for number, score in enumerate(scores, start=1):
                finish(ledger, directory, trial(number, score))
                needed = ledger.needed(ledger.finished())
                assert models(directory) == {one.states[-1] for one in needed}


@pytest.mark.parametrize(("keep", "kept"), [("best", [2]), ("fixed", [2, 0]), ("all", [0, 1, 2])])
def test_what_a_search_that_has_ended_keeps(tmp_path: Path, keep: str, kept: list[int]) -> None:
    with claimed(tiny_search(tmp_path, keep=keep), resume=False, overwrite=False) as directory:
        ledger = Ledger(directory.load_config(), directory, print)
        finish(ledger, directory, trial(0, 20.0, reference="paper"))
        for number in (1, 2):
            finish(ledger, directory, trial(number, 10.0 * number))
        assert [one.trial for one in ledger.kept([ledger.finished()[2]])] == kept
        assert keep != "all" or models(directory) == {"s0", "s1", "s2"}
