"""Optuna's own contracts of samplers and storages, over ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.testing.pytest_samplers import BasicSamplerTestCase
from optuna.testing.pytest_storages import StorageTestCase
from tiny import tiny_search

from raystt.searching.points import Points
from raystt.searching.proposals import Proposals
from raystt.searching.study import own_journal


def proposals(inner: Callable[[], BaseSampler], draws: int) -> Callable[[], BaseSampler]:
    """Return what makes a sampler of ours over a space of which it knows nothing."""
    points = Points(tiny_search(Path(), trials=None, space={}), "es")
    return lambda: Proposals("inner", lambda number: inner(), points, draws)


class TestProposals(BasicSamplerTestCase):
    """What Optuna asks of any sampler."""

    @pytest.fixture(
        params=[
            proposals(lambda: TPESampler(seed=1, n_startup_trials=1, multivariate=True), 8),
            proposals(lambda: RandomSampler(seed=1), 0),
        ],
        ids=["tpe", "sobol"],
    )
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        made: Callable[[], BaseSampler] = request.param
        return made


class TestJournal(StorageTestCase):
    """What Optuna asks of any storage."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> BaseStorage:
        return own_journal(tmp_path / "run" / "journal.log")
