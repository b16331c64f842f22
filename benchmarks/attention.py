"""Measure attention within packed sequences, forward and backward, against slices of the row.

    python benchmarks/attention.py [--device cuda] [--save]

The reference is a slice of query, key and value for each sequence, which is what raystt did before
(on a GPU with dropout only: without, it repeated the keys and called flash attention). Both take
turns in one process, on the same tensors in the layout that a LLaMA gives them; on a CPU by
one thread in fp32, in CPU seconds, on a GPU in bf16 by its own clock. Gradients are compared.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from record import save

from raystt.training.model import packed_attention

# sequences, tokens, heads, heads of keys, their size: LLaMA-3.2-1B thrice, and the quickstart
SHAPES = [
    (17, 8192, 32, 8, 64),
    (70, 8192, 32, 8, 64),
    (140, 8192, 32, 8, 64),
    (16, 1120, 4, 4, 40),
]
DROPOUTS = (0.0, 0.2)


def sliced(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None = None,
    *,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend in a loop over slices: the gradient of each is as long as the row."""
    borders = cu_seq_lens_q.tolist()
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, a:b],
            key[:, :, a:b],
            value[:, :, a:b],
            is_causal=True,
            dropout_p=dropout,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        for a, b in zip(borders[:-1], borders[1:], strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def seconds(work: Callable[[], Any], device: str) -> float:
    """Return how long something takes, by the clock of its device."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000


def measure(shape: tuple[int, ...], dropout: float, device: str, rounds: int) -> dict[str, Any]:
    """Time both ways on one packed row of sequences whose lengths differ by up to 40 %."""
    sequences, tokens, heads, kv_heads, size = shape
    shares = np.random.default_rng(1).uniform(0.6, 1.4, sequences)
    borders = np.append(0, np.round(np.cumsum(shares) / shares.sum() * tokens))
    cuts = torch.from_numpy(borders.astype(np.int32)).to(device)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.manual_seed(1)
    inputs = [
        torch.randn(1, tokens, h, size, device=device, dtype=dtype).transpose(1, 2).requires_grad_()
        for h in (heads, kv_heads, kv_heads)
    ]
    upstream = torch.randn(1, tokens, heads, size, device=device, dtype=dtype)
    longest = int(np.diff(borders).max())
    ways: dict[str, Any] = {"reference": sliced, "raystt": packed_attention}
    found: dict[str, tuple[torch.Tensor, ...]] = {}

    def work(name: str) -> None:
        torch.manual_seed(1)
        out, _ = ways[name](
            torch.nn.Identity(), *inputs, None, dropout=dropout, cu_seq_lens_q=cuts,
            max_length_q=longest,
        )  # fmt: skip
        found[name] = torch.autograd.grad(out, inputs, upstream)

    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in ways:
            spent = seconds(functools.partial(work, name), device)
            if turn:  # the first turn warms up
                taken[name].append(spent)
    medians = {name: statistics.median(spent) for name, spent in taken.items()}
    apart = max(
        float((one - other).float().norm() / one.float().norm())
        for one, other in zip(found["reference"], found["raystt"], strict=True)
    )
    return {
        "sequences": sequences,
        "tokens": tokens,
        "heads": [heads, kv_heads, size],
        "dropout": dropout,
        "reference_ms": round(medians["reference"] * 1000, 2),
        "raystt_ms": round(medians["raystt"] * 1000, 2),
        "ratio": round(medians["reference"] / medians["raystt"], 2),
        # A GPU draws other numbers for flash attention than for the loop.
        "gradients_apart": None if dropout and device == "cuda" else float(f"{apart:.1e}"),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    parser.add_argument("--rounds", type=int, default=3, help="timed turns a shape")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for shape in SHAPES:
        for dropout in DROPOUTS:
            result = measure(shape, dropout, options.device, options.rounds)
            results.append(result)
            print(
                f"{shape[0]:>4} sequences, {shape[1]} tokens, dropout {dropout}: slices "
                f"{result['reference_ms']:8.1f} ms, raystt {result['raystt_ms']:8.1f} ms, ratio "
                f"{result['ratio']}, gradients apart by {result['gradients_apart']}",
                flush=True,
            )
    if options.save:
        setting = {"lengths": "0.6 to 1.4 of their mean", "rounds": options.rounds}
        reference = "a loop over slices of the row, in this script"
        save("attention", reference, setting, results, packages=["torch"], device=options.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
