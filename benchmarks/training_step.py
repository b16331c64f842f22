"""Measure attention within packed sequences against a block-diagonal mask, and bf16 against fp32.

    python benchmarks/training_step.py [--save]

One optimiser step of the quickstart's model on 16 sequences in one packed row, by one thread; they
are 60 tokens long, and one longer at each step, for no two steps of a training have equal rows. The
reference is transformers' own handling of packed rows: `sdpa` with a mask derived from the
positions. All variants take turns in one process; the ratio is reference over variant.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from record import save

from raystt.training.model import PACKED, new_llama

SEQUENCES, SHORTEST, VOCABULARY = 16, 60, 500
VARIANTS = [("sdpa", "fp32"), (PACKED, "fp32"), (PACKED, "bf16")]


class Variant:
    """A model and its optimiser."""

    def __init__(self, attention: str, precision: str) -> None:
        torch.manual_seed(1)
        self.model = new_llama(
            vocabulary=VOCABULARY, hidden=160, layers=3, heads=4, pad=0, bos=1, eos=2
        )
        self.model.set_attn_implementation(attention)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.half, self.packed = precision == "bf16", attention == PACKED

    def step(self, length: int) -> tuple[float, float]:
        """Return the CPU seconds of a step on sequences of a length, and its loss."""
        generator = torch.Generator().manual_seed(length)
        tokens = torch.randint(3, VOCABULARY, (1, SEQUENCES * length), generator=generator)
        options: dict[str, Any] = {
            "position_ids": torch.arange(length).repeat(SEQUENCES)[None], "use_cache": False
        }  # fmt: skip
        if self.packed:
            borders = torch.arange(0, SEQUENCES * length + 1, length, dtype=torch.int32)
            options |= {"cu_seq_lens_q": borders, "max_length_q": length}
        began = time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.half):
            logits = self.model(input_ids=tokens, **options).logits
        loss = F.cross_entropy(logits[0].float(), tokens[0])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - began, loss.item()


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    parser.add_argument("--rounds", type=int, default=10, help="timed steps a variant")
    options = parser.parse_args()
    torch.set_num_threads(1)
    variants = [Variant(*names) for names in VARIANTS]
    taken: list[list[tuple[float, float]]] = [[] for _ in variants]
    for turn in range(options.rounds + 1):
        for place, variant in enumerate(variants):
            measured = variant.step(SHORTEST + turn)
            if turn:  # the first turn warms up
                taken[place].append(measured)
    medians = [statistics.median(seconds for seconds, _ in steps) for steps in taken]
    results = []
    for (attention, precision), seconds, steps in zip(VARIANTS, medians, taken, strict=True):
        result = {
            "attention": attention,
            "precision": precision,
            "cpu_seconds_a_step": round(seconds, 4),
            "ratio": round(medians[0] / seconds, 2),
            "loss_after": round(steps[-1][1], 3),
        }
        results.append(result)
        print(
            f"{attention:>14} {precision}: {seconds * 1000:6.0f} ms of CPU a step, "
            f"ratio {result['ratio']}, loss {result['loss_after']}"
        )
    if options.save:
        setting = {"sequences": SEQUENCES, "tokens_of_the_shortest": SHORTEST, "threads": 1}
        reference = "transformers' sdpa with a block-diagonal mask, fp32"
        save("training_step", reference, setting, results, packages=["torch", "transformers"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
