"""Floating-point operations of a run, and how long they take.

A matrix of P parameters costs 2 P operations a token forward and twice that backward (Kaplan et
al. 2020, section 2.1). Attention over a sequence of L tokens costs 2 L^2 x its width a layer
forward, half of the full square because it is causal. Interleaving makes sequences shorter, so
the lengths follow the achieved ratio of the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raystt.checking.architecture import Architecture
from raystt.checking.lengths import Counts, Lengths, achieved
from raystt.config.run import RunConfig

_MOMENTS = (np.arange(100) + 0.5) / 100  # of the horizon, at which a schedule is looked at


@dataclass(frozen=True)
class Device:
    """What a process computes on.

    Attributes:
        name: For people.
        bf16: Peak operations a second in bf16; `fp32` the same in fp32.
        utilisation: Share of the peak that training reaches.
        bandwidth: Bytes a second from its memory; None if it does not bound generation.
        launch_seconds: Least time of a pass through the model, spent on launching it.
        memory: Bytes of its memory; None if it is not a limit.
        reserve: Bytes that a process holds before there is a model: libraries, the device's
            context, communication buckets.
    """

    name: str
    bf16: float
    fp32: float
    utilisation: float
    bandwidth: float | None
    launch_seconds: float
    memory: float | None
    reserve: float

    def rate(self, bf16: bool) -> float:
        """Return the operations a second of training."""
        return (self.bf16 if bf16 else self.fp32) * self.utilisation


A100 = Device(
    name="A100 80 GB", bf16=312e12, fp32=19.5e12, utilisation=0.35, bandwidth=2.0e12,
    launch_seconds=0.025, memory=80e9, reserve=3e9,
)  # fmt: skip
"""NVIDIA's data sheet; 35 % is what good training of a model of a billion parameters reaches."""

CPU = Device(
    name="CPU process of one thread", bf16=45e9, fp32=45e9, utilisation=1.0, bandwidth=None,
    launch_seconds=0.003, memory=None, reserve=0.7e9,
)  # fmt: skip
"""As measured, see `benchmarks/results/training_step-cpu-2026-11-22.json`."""


def training_flops(model: Architecture, run: RunConfig, lengths: Lengths, words: Counts) -> float:
    """Return the operations of one training run.

    Args:
        model: The model with its units (`Architecture.extended`).
        run: The run.
        lengths: Mean lengths of its language; the spread of the lengths is left out.
        words: Words of sentences that the achieved ratio is simulated on.
    """
    nominal = [run.schedule.ratio(float(moment)) for moment in _MOMENTS]
    ratios = achieved(run.interleaving, words, nominal)
    tokens = np.array([lengths.tokens(run.interleaving, ratio) for ratio in ratios])
    dense = 2 * model.matrices() * tokens
    attention = 2 * model.layers * model.attention_width * tokens**2
    # adapters spare the gradients of matrices, and attention has none of those
    whole = 4 if run.model.gradient_checkpointing else 3
    a_pair = float(np.mean(training_passes(run) * dense + whole * attention))
    return run.training.steps * run.training.batch_utterances * a_pair


def training_seconds(flops: float, run: RunConfig, device: Device, *, bf16: bool) -> float:
    """Return the device-seconds of a training run; a tiny model is bound by launching."""
    launching = 4 * run.training.steps * device.launch_seconds  # two passes back, one update
    return max(flops / device.rate(bf16), launching * run.resources.workers_per_trainer)


def training_passes(run: RunConfig) -> int:
    """Return what a step costs in forward passes: 3; 2 with adapters; 1 more to recompute."""
    return (2 if run.model.lora else 3) + (1 if run.model.gradient_checkpointing else 0)


def generation_seconds(
    model: Architecture, run: RunConfig, lengths: Lengths, sentences: int, device: Device
) -> float:
    """Return the time to generate for `sentences`, without vocoder and recogniser.

    A step of generation reads all weights (fp32) for one token of each sentence of the batch, so
    on a GPU it is bound by memory or by launching. A batch goes on until its longest sentence is
    done, which is taken to be twice the mean.
    """
    batches = -(-sentences // run.evaluation.batch)
    new = lengths.generated(run.interleaving)
    steps = min(2 * new, float(run.evaluation.max_new_tokens))
    flops = 2 * model.matrices() * (lengths.source_units + 2)
    prompts = sentences * flops / device.rate(bf16=False)
    a_step = 2 * model.matrices() * min(sentences, run.evaluation.batch) / device.rate(bf16=False)
    reading = 4 * model.parameters() / device.bandwidth if device.bandwidth else 0.0
    return prompts + batches * steps * max(a_step, reading, device.launch_seconds)
