"""The evaluator pool on a real Ray, where the models of an evaluator cannot be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
import torch
from tiny import tiny_corpus

from raystt.config import EvaluationConfig, ResourcesConfig
from raystt.evaluation.judge import DeviceError
from raystt.pools.evaluators import EvaluatorPool
from raystt.vocoder.spectrum import VocoderError

pytestmark = pytest.mark.slow


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_what_is_wrong_with_an_evaluator_is_told_as_it_is(tmp_path: Path) -> None:
    tiny_corpus(tmp_path)
    config = EvaluationConfig()
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        for gpus, error in ((0.0, VocoderError), (1.0, DeviceError)):
            resources = ResourcesConfig(evaluators=1, gpus_per_evaluator=gpus)
            with EvaluatorPool(str(tmp_path), config, resources) as pool, pytest.raises(error):
                pool.wait_until_ready(timeout=120)
    finally:
        ray.shutdown()
