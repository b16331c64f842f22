"""Trainings on fresh seeds that go wrong: what is done is kept, and the others end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made import result
from tiny import tiny_corpus, tiny_search

from raystt.lines import read
from raystt.pools.errors import Interrupted, JobFailed, StorageLost
from raystt.results import Proposal, Result
from raystt.searching import confirm as module
from raystt.searching.claim import claimed
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools

Measure = Callable[[Proposal], Iterator[Result]]


class Pool:
    """Trains nothing; knows why it was given up."""

    def __init__(self) -> None:
        self.over, self.causes = threading.Event(), list[str]()
        self.give_up = SimpleNamespace(remote=self._end)

    def _end(self, cause: str) -> None:
        self.causes.append(cause)
        self.over.set()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    search = tiny_search(
        tmp_path, trials=8, confirm={"top": 2, "seeds": 3}, references=["none", "paper"]
    )
    tiny_corpus(tmp_path / "corpus")
    with claimed(search, resume=False, overwrite=False) as directory:
        directory.keep_card(tmp_path / "corpus")
        directory.append(result(1, 20.0, reference="paper"))
        for trial in (3, 4):
            directory.append(result(trial, 30.0, overrides={"schedule.end": 0.1 * trial}))
        yield directory


def confirm(run: RunDirectory, pool: Pool, measure: Measure, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "measure", lambda search, pools, proposal, *_: measure(proposal))
    search = run.load_config()
    pools = Pools(pool, pool, corpus="", states="", trials="")
    module.confirm(search, Ledger(search, run, print), run, pools, print)


def fresh(proposal: Proposal) -> Result:
    return result(proposal.trial, 25.0, **{
        "seed": proposal.seed, "overrides": proposal.overrides, "fresh": True, "split": "test",
    })  # fmt: skip


def test_what_ails_all_of_them_is_not_tried_to_the_end(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool()

    def measure(proposal: Proposal) -> Any:
        raise JobFailed("CUDA error: an illegal access\nand more")

    with pytest.raises(Interrupted, match=r"trainings in a row .* es#\d/\d: CUDA error: an il"):
        confirm(run, pool, measure, monkeypatch)
    assert len(pool.causes) == 2 and "CUDA error" in pool.causes[0]
    assert not run.confirmation.exists()


def test_a_lost_storage_ends_the_others_and_loses_nothing(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, begun = Pool(), iter(range(100))

    def measure(proposal: Proposal) -> Iterator[Result]:
        turn = next(begun)
        if turn == 1:
            while not run.confirmation.exists():
                time.sleep(0.01)
            raise StorageLost("No space left on device")
        if turn > 1:
            pool.over.wait()  # it trains, until it is told
            raise Interrupted(pool.causes[0])
        yield fresh(proposal)

    with pytest.raises(StorageLost, match="No space left"):
        confirm(run, pool, measure, monkeypatch)
    assert len(read(run.confirmation)) == 1
