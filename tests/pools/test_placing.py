"""What is told of a worker that is not there: it lacks something, or is only being started."""

from __future__ import annotations

import pytest

from raystt.config import ResourcesConfig
from raystt.pools.broker import Absence
from raystt.pools.placing import Waiting


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"cpus_per_worker": 64.0}, ("trainer 0 has waited for 61 s", "64 CPU", "of 2 CPU free")),
        ({"gpus_per_worker": 1.0}, ("trainer 0 has waited", "1 GPU", "0 of 0 GPU free")),
        ({"workers_per_trainer": 9}, ("trainer 0 has waited", "9 times 0.5 CPU")),
        ({}, ("trainer 0 has been starting for 61 s", "0.5 CPU")),
    ],
)
def test_who_waits_for_what(
    ray_local: str, needs: dict[str, float], words: tuple[str, ...]
) -> None:
    told: list[str] = []
    waiting = Waiting(ResourcesConfig.model_validate(needs), told.append)
    assert waiting.look([Absence("trainer 0", 61.0, "")], of=2) is None
    waiting.look([Absence("trainer 0", 90.0, "")], of=2)  # within a minute it is no news
    (line,) = told
    for part in words:
        assert part in line
    assert "resources.patience" in str(waiting.look([Absence("trainer 0", 601.0, "")], of=1))
