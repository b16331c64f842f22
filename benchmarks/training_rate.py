"""Measure a training step against a bare loop on the same batches, and HF `Trainer` with padding.

    python benchmarks/training_rate.py search_spaces/quickstart.yaml [--rounds 5] [--save]

Real tokens (no padding) a second of CPU time, by one thread in fp32. The same steps of the first
language of the search, at a text ratio of 0.9 and at none, for raystt's engine at ZeRO stages 0, 1
and 2; for a loop of forward, backward, clipping, AdamW and the schedule of the learning rate on the
same packed micro-batches; and for transformers' `Trainer`, which pads the same sequences to the
longest of a batch. All take turns in one process, for the model of the search, and for a larger one
with random weights.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from record import save
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
)

import raystt
from raystt.config import RunConfig, load_search
from raystt.corpus.card import Card
from raystt.training.batches import IGNORED, StepBatch, assembled
from raystt.training.engine import Engine
from raystt.training.jobs import whole_run
from raystt.training.model import PACKED, new_llama
from raystt.training.segment import read_locally
from raystt.training.start import starting_model

STEPS = {"the search's": 20, "8 layers of 512": 3}  # a round, for each model
RATIOS = (0.9, 0.0)
BARE = "bare loop"
PADDED = "HF Trainer, padded"


def batches_of(
    run: RunConfig, corpus: Path, card: Card, ratio: float, steps: int
) -> list[StepBatch]:
    """Return the batches of the first steps of a run, all at one text ratio."""
    tables = list(read_locally(whole_run(run, corpus, corpus), card))[:steps]
    return list(
        assembled(
            tables, np.full((steps, 2), ratio), card=card, interleaving=run.interleaving,
            seed=run.seed, rank=0, world_size=1, max_tokens=run.training.micro_batch_tokens,
        )
    )  # fmt: skip


def engine_side(run: RunConfig, model: torch.nn.Module, stage: int) -> Callable[..., float]:
    """Return what trains on batches with raystt's engine, and says how long it took."""
    config = run.training.model_copy(update={"zero_stage": stage})
    engine = Engine(model, config, config.steps, "cpu")

    def train(batches: list[StepBatch]) -> float:
        began = time.process_time()
        for batch in batches:
            engine.step(batch)
        return time.process_time() - began

    return train


def bare_side(run: RunConfig, model: torch.nn.Module) -> Callable[..., float]:
    """Return the loop that one would write oneself for the packed batches."""
    config = run.training
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), fused=True
    )
    warmup = round(config.warmup * config.steps)
    schedule = get_scheduler(config.lr_schedule, optimizer, warmup, config.steps)

    def train(batches: list[StepBatch]) -> float:
        began = time.process_time()
        for batch in batches:
            for part in batch.micro_batches:
                logits = model(
                    input_ids=part.tokens[None], position_ids=part.positions[None],
                    use_cache=False, logits_to_keep=part.predicting, cu_seq_lens_q=part.borders,
                    max_length_q=part.longest,
                ).logits[0]  # fmt: skip
                summed = F.cross_entropy(logits, part.targets, reduction="sum")
                (summed / batch.loss_tokens).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return time.process_time() - began

    return train


class Clock(TrainerCallback):
    """Takes the CPU time from the first step of a `Trainer` to its last."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.process_time()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.process_time() - self.began


def unpacked(batches: list[StepBatch]) -> list[dict[str, list[int]]]:
    """Return the sequences of packed batches, with the labels that `Trainer` expects."""
    rows = []
    for part in (part for batch in batches for part in batch.micro_batches):
        labels = torch.full_like(part.tokens, IGNORED)
        labels[part.predicting + 1] = part.targets
        for start, stop in zip(part.borders[:-1].tolist(), part.borders[1:].tolist(), strict=True):
            rows.append(
                {
                    "input_ids": part.tokens[start:stop].tolist(),
                    "labels": labels[start:stop].tolist(),
                }
            )
    return rows


def trainer_arguments(run: RunConfig, place: str) -> TrainingArguments:
    """Return the settings of `Trainer`; made before an engine makes a process group.

    After that, it would wrap the model for several processes.
    """
    config = run.training
    arguments = TrainingArguments(
        output_dir=place, per_device_train_batch_size=config.batch_utterances,
        learning_rate=config.learning_rate, adam_beta2=0.98, num_train_epochs=1,
        max_grad_norm=config.gradient_clipping, optim="adamw_torch_fused", use_cpu=True,
        logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
        train_sampling_strategy="sequential", dataloader_pin_memory=False,
    )  # fmt: skip
    if arguments.parallel_mode.value != "not_parallel":
        raise SystemExit(f"Trainer would train in parallel ({arguments.parallel_mode})")
    return arguments


def trainer_side(
    model: Any, tokenizer: Any, arguments: TrainingArguments
) -> Callable[[list[StepBatch]], float]:
    """Return what trains on the sequences of the batches with `Trainer`, padded."""

    def train(batches: list[StepBatch]) -> float:
        clock = Clock()
        Trainer(
            model, arguments, data_collator=DataCollatorForSeq2Seq(tokenizer),
            train_dataset=unpacked(batches), callbacks=[clock],
        ).train()  # fmt: skip
        return clock.seconds

    return train


def sides_of(
    run: RunConfig, card: Card, corpus: Path, name: str, arguments: TrainingArguments
) -> dict[str, Callable[..., float]]:
    """Return who trains a model, by name."""

    def model() -> Any:
        first: Any = starting_model(run, corpus, card)
        if name == "the search's":
            return first
        torch.manual_seed(1)
        return new_llama(
            vocabulary=first.config.vocab_size, hidden=512, layers=8, heads=8,
            pad=card.tokenizer.pad, bos=card.tokenizer.bos, eos=card.tokenizer.eos,
        )  # fmt: skip

    tokenizer = AutoTokenizer.from_pretrained(corpus / card.tokenizer.path)
    plain, packed = model(), model()
    plain.set_attn_implementation("sdpa")
    packed.set_attn_implementation(PACKED)
    sides = {
        PADDED: trainer_side(plain, tokenizer, arguments),
        BARE: bare_side(run, packed),
    }
    for stage in (0, 1, 2):
        given = model()
        given.set_attn_implementation(PACKED)
        sides[f"raystt, ZeRO stage {stage}"] = engine_side(run, given, stage)
    return sides


def compared(
    sides: dict[str, Callable[..., float]], batches: list[StepBatch], rounds: int, **about: Any
) -> list[dict[str, Any]]:
    """Let the sides train in turns; return and print a row for each."""
    tokens = sum(batch.tokens for batch in batches)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, train in sides.items():
            seconds = train(batches)
            if turn:  # the first turn warms up
                rates[name].append(tokens / seconds)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    rows = []
    for name, rate in medians.items():
        row = {**about, "side": name, "tokens_a_second": round(rate),
               "of_the_bare_loop": round(rate / medians[BARE], 2),
               "times_trainer": round(rate / medians[PADDED], 2)}  # fmt: skip
        print(" | ".join(str(value) for value in row.values()), flush=True)
        rows.append({**row, "all": [round(one) for one in rates[name]]})
    return rows


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("space", type=Path, help="YAML of a search; its corpus is prepared")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    options = parser.parse_args()
    raystt.prepare(options.space)
    torch.set_num_threads(1)
    search = load_search(options.space)
    run = search.run_for(search.languages[0], {}, name="timed")
    corpus = Path(run.corpus.path).resolve()
    card = Card.load(corpus)

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="raystt-rate-") as place:
        arguments = trainer_arguments(run, place)
        for name, steps in STEPS.items():
            sides = sides_of(run, card, corpus, name, arguments)
            for ratio in RATIOS:
                batches = batches_of(run, corpus, card, ratio, steps)
                results += compared(sides, batches, options.rounds, model=name, text_ratio=ratio)
    if options.save:
        setting = {
            "rounds": options.rounds,
            "steps_a_round": STEPS,
            "batch": run.training.batch_utterances,
        }
        save("training_rate", "a bare loop; transformers' Trainer with padding", setting, results,
             packages=["torch", "transformers", "deepspeed"])  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
