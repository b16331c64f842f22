"""How large pools are while nodes come and go; the pools themselves are tested on a real Ray."""

from __future__ import annotations

from typing import Any

import pytest

from raystt.cluster.plan import planned
from raystt.config import ResourcesConfig
from raystt.pools import growth
from raystt.pools.growth import Growth

NODE = {"CPU": 64.0, "GPU": 8.0}


class Pool:
    """Remembers its sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.introduced = 0

    def resize(self, count: int) -> None:
        self.sizes.append(count)

    grow = resize

    def introduce(self) -> None:
        self.introduced += 1


def follow(monkeypatch: pytest.MonkeyPatch, auto: bool) -> tuple[Growth, Pool, Pool, list[str]]:
    """Let a cluster of one node grow, lose a node, lose all, and have two again."""
    trainers: Any = Pool()
    evaluators: Any = Pool()
    messages: list[str] = []
    start = planned(ResourcesConfig(auto=True), [NODE])
    grown = Growth(start, trainers, evaluators, auto, messages.append)
    for count in (1, 2, 1, 0, 2):
        monkeypatch.setattr(growth, "alive_nodes", lambda count=count: [NODE] * count)
        grown.look()
    return grown, trainers, evaluators, messages


def test_trainers_wait_for_lost_nodes_and_evaluators_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grown, trainers, evaluators, messages = follow(monkeypatch, auto=True)
    assert trainers.sizes == [14, 14, 14] and evaluators.sizes == [4, 2, 4]
    assert trainers.introduced == evaluators.introduced == 5
    assert (grown.resources.trainers, grown.concurrent) == (14, 18)
    assert messages == [
        "the cluster has grown: 14 trainers (before: 7), 4 evaluators (before: 2)",
        "the cluster has changed: 14 trainers (before: 14), 2 evaluators (before: 4)",
        "the cluster has changed: 14 trainers (before: 14), 4 evaluators (before: 2)",
    ]


def test_sizes_that_were_given_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    grown, trainers, evaluators, messages = follow(monkeypatch, auto=False)
    assert not (trainers.sizes or evaluators.sizes or messages)
    assert grown.concurrent == 9
