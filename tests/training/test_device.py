"""The device is what was asked for, whatever the node has."""

from __future__ import annotations

import pytest
import torch

from raystt.training.device import NoGpu, device_of


def test_no_gpu_asked_is_the_cpu_on_a_node_with_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(0.0, "gpus_per_worker") == "cpu"
    assert device_of(0.5, "gpus_per_worker") == "cuda"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_with_the_key() -> None:
    with pytest.raises(NoGpu, match=r"resources\.gpus_per_worker: 0\.5.*set it to 0"):
        device_of(0.5, "gpus_per_worker")


@pytest.mark.gpu
def test_a_share_of_a_gpu_is_one() -> None:
    assert device_of(0.25, "gpus_per_encoder") == "cuda"
