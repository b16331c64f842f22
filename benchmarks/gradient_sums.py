"""Measure what adding up bf16 gradients over the micro-batches of a step costs in precision.

    python benchmarks/gradient_sums.py [--save]

Both sides are compared with fp32 sums of the same bf16 gradients: sums in bf16, as a parameter's
`grad` is one (and as DeepSpeed's are at ZeRO stage 0), and what raystt's engine gives its optimiser
at stage 0. The ratio is the former's error over the latter's.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
import torch.nn.functional as F
from deepspeed.utils import safe_get_full_grad
from record import save

from raystt.config import TrainingConfig
from raystt.training.batches import MicroBatch, StepBatch
from raystt.training.engine import Engine
from raystt.training.model import new_llama

LENGTH, VOCABULARY = 96, 500


def micro_batch(seed: int) -> MicroBatch:
    """Draw a sequence of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, VOCABULARY, (LENGTH,), generator=generator)
    return MicroBatch(
        tokens=tokens,
        positions=torch.arange(LENGTH),
        borders=torch.tensor([0, LENGTH], dtype=torch.int32),
        predicting=torch.arange(LENGTH - 1),
        targets=tokens[1:],
        longest=LENGTH,
    )


def flat(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join gradients into one vector, fp32."""
    return torch.cat([part.float().flatten() for part in parts])


def measure(count: int) -> dict[str, Any]:
    """Compare the three sums over `count` micro-batches."""
    torch.manual_seed(1)
    model = new_llama(vocabulary=VOCABULARY, hidden=64, layers=2, heads=4, pad=0, bos=1, eos=2)
    config = TrainingConfig(precision="bf16", zero_stage=0, gradient_clipping=0.0)
    engine = Engine(model, config, 100, "cpu")
    parts = tuple(micro_batch(seed) for seed in range(count))
    predicted = count * (LENGTH - 1)
    parameters = list(engine._engine.module.parameters())
    sums = {d: [torch.zeros_like(p, dtype=d) for p in parameters] for d in
            (torch.float32, torch.bfloat16)}  # fmt: skip
    for part in parts:
        logits = engine._engine.module(
            input_ids=part.tokens[None], position_ids=part.positions[None], use_cache=False,
            logits_to_keep=part.predicting, cu_seq_lens_q=part.borders, max_length_q=LENGTH,
        ).logits[0]  # fmt: skip
        loss = F.cross_entropy(logits.float(), part.targets, reduction="sum") / predicted
        gradients = torch.autograd.grad(loss, parameters)
        for dtype, totals in sums.items():
            for total, gradient in zip(totals, gradients, strict=True):
                total += gradient.to(dtype)
    given: list[torch.Tensor] = []
    update = engine._engine.step

    def look_and_update() -> None:
        given.extend(safe_get_full_grad(p).clone() for p in parameters)
        update()

    engine._engine.step = look_and_update
    engine.step(StepBatch(parts, predicted, count * LENGTH, 0, 1, 0, 1))
    engine.close()
    exact = flat(sums[torch.float32])
    errors = [float((flat(found) - exact).norm() / exact.norm())
              for found in (sums[torch.bfloat16], given)]  # fmt: skip
    return {
        "micro_batches": count,
        "error_in_bf16": float(f"{errors[0]:.2e}"),
        "error_of_raystt": float(f"{errors[1]:.2e}"),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(count) for count in (1, 8, 64)]
    for result in results:
        print(
            f"{result['micro_batches']:>3} micro-batches: added up in bf16 "
            f"{result['error_in_bf16']:.3%} off, by raystt {result['error_of_raystt']:.3%}"
        )
    if options.save:
        setting = {"tokens_a_micro_batch": LENGTH, "zero_stage": 0}
        reference = "fp32 sums of the same bf16 gradients"
        packages = ["torch", "deepspeed", "transformers"]
        save("gradient_sums", reference, setting, results, packages=packages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
