"""Measure training of a LLaMA-3.2-1B with random weights on one GPU: utilisation and memory.

    python benchmarks/training_gpu.py [--save]

Steps of raystt's engine in bf16 on packed micro-batches of at most 8192 tokens, for 128 utterances
of pure speech, and for 128 and 512 at a text ratio of 0.9, where they are an eighth as long; 60 %
of the tokens are predicted. The reference is the same engine without what was made for GPUs: a
table of 130,305 rows instead of a multiple of 128, all logits at once, layers as they come, and a
loop over slices for attention.

Utilisation counts the engine's own operations (`raystt.training.flops`) over the rate of an 8192 x
8192 x 8192 product measured at the beginning.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from attention import sliced
from record import save
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from raystt.config import TrainingConfig
from raystt.training import engine as engines
from raystt.training.batches import MicroBatch, StepBatch
from raystt.training.engine import Engine
from raystt.training.model import PACKED

WIDTH, INNER, LAYERS, HEADS, KV_HEADS, SIZE = 2048, 8192, 16, 32, 8, 64
WORDS = 130_305  # 128,256 of text, 2048 units and a separator
ROOM, PREDICTED = 8192, 0.6
BATCHES = {"0": (128, 300, 660), "0.9": (128, 40, 78), "0.9, large": (512, 40, 78)}


class Plain(Engine):
    """The engine without what was made for GPUs; its attention is set in the model."""

    def __init__(self, *arguments: Any) -> None:
        compiled, engines.compile_layers = engines.compile_layers, lambda model: None
        super().__init__(*arguments)
        engines.compile_layers = compiled
        self._head = None


def step_batch(count: int, shortest: int, longest: int) -> StepBatch:
    """Return a step of utterances of random lengths and tokens."""
    lengths = np.random.default_rng(1).integers(shortest, longest + 1, count)
    packs: list[list[int]] = [[]]
    for length in lengths.tolist():
        if sum(packs[-1]) + length > ROOM:
            packs.append([])
        packs[-1].append(length)
    generator = torch.Generator().manual_seed(1)
    parts = []
    for pack in packs:
        tokens = torch.randint(3, WORDS, (sum(pack),), generator=generator)
        ends = np.cumsum(pack)
        predicting = np.concatenate(
            [
                np.arange(end - 1 - int(PREDICTED * n), end - 1)
                for end, n in zip(ends, pack, strict=True)
            ]
        )
        parts.append(MicroBatch(
            tokens=tokens,
            positions=torch.from_numpy(np.concatenate([np.arange(n) for n in pack])),
            borders=torch.from_numpy(np.append(0, ends).astype(np.int32)),
            predicting=torch.from_numpy(predicting),
            targets=tokens[predicting + 1],
            longest=max(pack),
        ))  # fmt: skip
    predicted = sum(len(part.targets) for part in parts)
    return StepBatch(tuple(parts), predicted, int(lengths.sum()), 0, 1, 0, 1)


def model(rows: int, attention: str, dropout: float) -> LlamaForCausalLM:
    """Build the model on the GPU."""
    config = LlamaConfig(
        vocab_size=rows, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=SIZE,
        max_position_embeddings=131_072, tie_word_embeddings=True, attention_dropout=dropout,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        attn_implementation=attention,
    )  # fmt: skip
    torch.manual_seed(1)
    with torch.device("cuda"):
        return LlamaForCausalLM(config)


def dense_rate() -> float:
    """Measure the operations a second of a large bf16 product of random numbers."""
    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    taken = []
    for _ in range(25):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(4):
            one @ other
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - began) / 4)
    return 2 * 8192**3 / statistics.median(taken[5:])


def measure(name: str, dropout: float, rate: float, rounds: int) -> list[dict[str, Any]]:
    """Time the steps of one side."""
    AttentionInterface.register("sliced", sliced)
    plain = name == "reference"
    rows = WORDS if plain else -(-WORDS // 128) * 128
    config = TrainingConfig(precision="bf16", learning_rate=1e-5)
    with contextlib.redirect_stdout(None):  # DeepSpeed says what memory it takes
        started = (Plain if plain else Engine)(
            model(rows, "sliced" if plain else PACKED, dropout), config, 1000, "cuda"
        )
    results = []
    for ratio, shape in BATCHES.items():
        batch = step_batch(*shape)
        for _ in range(2):  # compiles, and warms up
            started.step(batch)
        torch.cuda.reset_peak_memory_stats()
        taken, before = [], started.operations
        for _ in range(rounds):
            torch.cuda.synchronize()
            began = time.perf_counter()
            started.step(batch)  # returns the loss, hence waits
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
        seconds = statistics.median(taken)
        operations = (started.operations - before) / rounds
        result = {
            "side": name,
            "dropout": dropout,
            "text_ratio": ratio,
            "utterances": shape[0],
            "tokens": batch.tokens,
            "micro_batches": len(batch.micro_batches),
            "ms_a_step": round(seconds * 1000, 1),
            "tokens_a_second": round(batch.tokens / seconds),
            "utilisation": round(operations / seconds / rate, 3),
            "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
        }
        results.append(result)
        print(
            f"{name:>9}, dropout {dropout}, ratio {ratio:>10}: {result['ms_a_step']:7.1f} ms, "
            f"{result['tokens_a_second']:,} tokens/s, utilisation {result['utilisation']}, "
            f"{result['peak_memory_gib']} GiB",
            flush=True,
        )
    started.close()
    del started
    gc.collect()
    torch.cuda.empty_cache()
    return results


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps a batch")
    options = parser.parse_args()
    rate = dense_rate()
    print(f"dense bf16: {rate / 1e12:.0f} TFLOP/s")
    results = []
    for dropout in (0.0, 0.2):
        reference, raystt = (
            measure(name, dropout, rate, options.rounds) for name in ("reference", "raystt")
        )
        for one, other in zip(reference, raystt, strict=True):
            other["ratio"] = round(one["ms_a_step"] / other["ms_a_step"], 2)
            print(f"ratio {one['text_ratio']}, dropout {dropout}: {other['ratio']} times as fast")
        results += reference + raystt
    if options.save:
        setting: dict[str, Any] = {"dense_tflops": round(rate / 1e12), "micro_batch_tokens": ROOM}
        setting |= {"predicted": PREDICTED, "vocabulary": WORDS}
        reference_side = "the engine without what was made for GPUs, in this script"
        packages = ["torch", "deepspeed", "transformers"]
        save("training_gpu", reference_side, setting, results, packages=packages, device="cuda")
    return 0


if __name__ == "__main__":
    sys.exit(main())
