"""A Tune trial whose storage is lost: it waits, but not for ever and not in vain."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tiny import tiny_search

from raystt.pools.errors import StorageLost
from raystt.results import Proposal
from raystt.searching import measure as module
from raystt.searching.measure import Measurement, Pools
from raystt.searching.trial import Trial


class Losing(Trial):
    """A trial that loses its storage a few times."""

    def setup(self, config: dict, pools: Pools, search: object, times: int) -> None:  # type: ignore[override]
        super().setup(config, pools, search)  # type: ignore[arg-type]
        self.times = self.tries = 0
        self.times = times

    def _advance(self) -> dict:
        self.tries += 1
        if self.tries <= self.times:
            raise StorageLost("No space left on device")
        return {"status": "complete"}


def losing(path: Path, times: int) -> Losing:
    proposal = Proposal(language="es", trial=0, reference=None, seed=1, overrides={})
    pools = Pools(None, None, corpus="", states=str(path), trials=str(path))
    made = Losing.__new__(Losing)
    made.setup(proposal.config(), pools, tiny_search(path), times)
    return made


def test_lost_storage_is_not_waited_for_where_the_search_ends(tmp_path: Path) -> None:
    proposal = Proposal(language="es", trial=0, reference=None, seed=1, overrides={})
    pools = Pools(None, None, corpus="", states=str(tmp_path), trials=str(tmp_path))
    ending = threading.Event()
    one = Measurement(tiny_search(tmp_path), pools, proposal, ending)
    times = 0

    def work() -> None:
        nonlocal times
        times += 1
        ending.set()
        raise StorageLost("No space left on device")

    with pytest.raises(StorageLost):  # and not after `_STORAGE_SECONDS`, tried again
        one.undisturbed(work)
    assert times == 1


@pytest.mark.parametrize(("times", "status"), [(2, "complete"), (3, "interrupted")])
def test_lost_storage_is_tried_again_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, status: str
) -> None:
    monkeypatch.setattr(module, "_STORAGE_SECONDS", 0.0)
    trial = losing(tmp_path, times)
    assert trial.step()["status"] == status
    assert trial.tries == 3


def test_an_error_of_a_trials_own_is_told_as_it_is(tmp_path: Path) -> None:
    trial = losing(tmp_path, 0)
    trial._advance = lambda: (tmp_path / "missing").read_text()  # type: ignore[method-assign]
    report = trial.step()
    assert report["status"] == "failed" and report["done"]
    assert "FileNotFoundError" in report["error"] and "missing" in report["error"]
