"""The learning rate by step is that of transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from raystt.training.rate import learning_rate


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 7), (3, 20), (50, 1000), (4, 4)])
def test_it_is_that_of_transformers_to_the_bit(kind: str, warmup: int, steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(kind, optimizer, warmup, steps).lr_lambdas[0]
    ours = learning_rate(kind, warmup, steps)
    assert [ours(step) for step in range(steps + 3)] == [theirs(step) for step in range(steps + 3)]
