"""An optimiser step: what is added up, and in what precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from raystt.config import TrainingConfig
from raystt.training.batches import MicroBatch, StepBatch
from raystt.training.engine import Engine, compile_layers, resolve_precision
from raystt.training.flops import Operations
from raystt.training.model import new_llama

LENGTH, MICRO_BATCHES = 24, 64


def micro_batch(seed: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, 60, (LENGTH,), generator=generator)
    return MicroBatch(
        tokens=tokens,
        positions=torch.arange(LENGTH),
        borders=torch.tensor([0, LENGTH], dtype=torch.int32),
        predicting=torch.arange(LENGTH - 1),
        targets=tokens[1:],
        longest=LENGTH,
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_bf16_gradients_of_many_micro_batches_are_added_up_in_fp32(stage: int) -> None:
    """Added up in bf16, they would be 0.9 % off."""
    from deepspeed.utils import safe_get_full_grad

    torch.manual_seed(1)
    model = new_llama(vocabulary=64, hidden=32, layers=1, heads=2, pad=0, bos=1, eos=2)
    config = TrainingConfig(precision="bf16", zero_stage=stage, gradient_clipping=0.0)
    engine = Engine(model, config, 100, "cpu")
    parts = tuple(micro_batch(seed) for seed in range(MICRO_BATCHES))
    predicted = MICRO_BATCHES * (LENGTH - 1)
    batch = StepBatch(parts, predicted, MICRO_BATCHES * LENGTH, 0, 1, 0, 1)
    parameters = list(engine._engine.module.parameters())
    expected = [torch.zeros_like(p, dtype=torch.float32) for p in parameters]
    for part in parts:
        logits = engine._engine.module(
            input_ids=part.tokens[None], position_ids=part.positions[None], use_cache=False,
            logits_to_keep=part.predicting, cu_seq_lens_q=part.borders, max_length_q=LENGTH,
        ).logits[0]  # fmt: skip
        loss = F.cross_entropy(logits.float(), part.targets, reduction="sum") / predicted
        for total, gradient in zip(expected, torch.autograd.grad(loss, parameters), strict=True):
            total += gradient.float()
    found: list[torch.Tensor] = []
    update = engine._engine.step

    def look_and_update() -> None:
        found.extend(safe_get_full_grad(p).float().clone() for p in parameters)
        update()

    engine._engine.step = look_and_update
    engine.step(batch)
    engine.close()
    sums = [torch.cat([part.flatten() for part in parts]) for parts in (found, expected)]
    assert (sums[0] - sums[1]).norm() < 0.003 * sums[1].norm()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("limit", [0.1, 1e9])
def test_the_norm_is_that_of_gradients_before_they_are_clipped(stage: int, limit: float) -> None:
    torch.manual_seed(1)
    model = new_llama(vocabulary=64, hidden=32, layers=1, heads=2, pad=0, bos=1, eos=2)
    part = micro_batch(1)
    logits = model(
        input_ids=part.tokens[None], position_ids=part.positions[None], use_cache=False,
        logits_to_keep=part.predicting, cu_seq_lens_q=part.borders, max_length_q=LENGTH,
    ).logits[0]  # fmt: skip
    loss = F.cross_entropy(logits, part.targets)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    config = TrainingConfig(precision="fp32", zero_stage=stage, gradient_clipping=limit)
    engine = Engine(model, config, 100, "cpu")
    assert not engine.gradient_norm  # before the first step
    batch = StepBatch((part,), LENGTH - 1, LENGTH, 0, 1, 0, 1)
    counted = Operations(model).of(batch)
    engine.step(batch)
    assert engine.operations == counted > 0
    assert engine.peak_rate is None
    assert engine.gradient_norm == pytest.approx(expected, rel=1e-4)
    assert engine.peak_memory == 0
    engine.close()


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_compiled_layers_give_the_same_gradients(dropout: float) -> None:
    torch.manual_seed(1)
    model = new_llama(vocabulary=64, hidden=128, layers=2, heads=2, pad=0, bos=1, eos=2)
    model = model.to("cuda", torch.bfloat16).train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = dropout

    def gradients(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        part = micro_batch(1).to("cuda")
        logits = model(
            input_ids=part.tokens[None], position_ids=part.positions[None], use_cache=False,
            cu_seq_lens_q=part.borders, max_length_q=LENGTH,
        ).logits[0]  # fmt: skip
        loss = F.cross_entropy(logits[:-1].float(), part.targets)
        found = torch.autograd.grad(loss, list(model.parameters()))
        return torch.cat([gradient.flatten().float() for gradient in found])

    plain, other = gradients(3), gradients(4)
    assert ((plain - other).norm() > 0.1 * plain.norm()) == (dropout > 0)
    compile_layers(model)
    assert (gradients(3) - plain).norm() < 0.03 * plain.norm()


def test_a_cpu_trains_in_fp32_unless_told_otherwise() -> None:
    """What is found on one machine must not depend on which CPU it has."""
    assert resolve_precision("auto", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"
