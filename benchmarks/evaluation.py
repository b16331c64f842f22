"""Measure evaluation: batches of prompts against one by one, two evaluators against one.

    python benchmarks/evaluation.py search_spaces/quickstart.yaml [--rounds 3] [--save]

A model of the paper's schedule is trained first. Then its dev split is generated, by one thread,
with `evaluation.batch` as the YAML has it and one prompt at a time, in turns, and by transformers'
continuous batching (`generate_batch`), which must write the same; and whole evaluations
(generation, vocoder, recogniser) go through a pool of one evaluator and through one of two, in
turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from record import save
from transformers import GenerationConfig

import raystt
from raystt.cluster.start import ray_session
from raystt.config import RunConfig, load_search
from raystt.corpus.card import Card
from raystt.corpus.rows import side
from raystt.corpus.shards import read_rows
from raystt.evaluation.generate import generate
from raystt.evaluation.jobs import Evaluation, EvaluationJob
from raystt.interleaving.sequences import prompt
from raystt.pools.evaluators import EvaluatorPool
from raystt.training.batches import layout_of
from raystt.training.jobs import whole_run
from raystt.training.model import load_model
from raystt.training.segment import train_segment

JOBS = 4  # a pool and round


def job_of(run: RunConfig, model: Path, batch: int) -> EvaluationJob:
    """Return the evaluation of a model on dev."""
    config = run.evaluation.model_copy(update={"batch": batch})
    return EvaluationJob(str(model), run.language, "dev", config, run.interleaving)


def generation(run: RunConfig, model: Path, corpus: Path, rounds: int) -> dict[int, list[float]]:
    """Return the tokens a second of each size of a batch, a number a round."""
    card = Card.load(corpus)
    rows = read_rows(corpus, card, run.language, "dev", None)
    found: dict[int, list[float]] = {1: [], run.evaluation.batch: []}
    for turn in range(rounds + 1):
        for batch, speeds in found.items():
            began = time.perf_counter()
            made = generate(rows, job_of(run, model, batch), card, device="cpu")
            seconds = time.perf_counter() - began
            if turn:  # the first turn warms up
                speeds.append(sum(len(one.spoken) for one in made) / seconds)
    return found


def continuous(run: RunConfig, model: Path, corpus: Path) -> list[float]:
    """Return the tokens a second of transformers' continuous batching, of a second round."""
    card = Card.load(corpus)
    rows, layout = read_rows(corpus, card, run.language, "dev", None), layout_of(card)
    prompts = prompt(side(rows, "source", card.tokenizer.unit_offset), layout, run.interleaving)
    inputs = [part.tolist() for part in np.split(prompts.tokens, prompts.offsets[1:-1])]
    settings = GenerationConfig(
        do_sample=False, eos_token_id=layout.eos, pad_token_id=card.tokenizer.pad,
        max_new_tokens=run.evaluation.max_new_tokens,
    )  # fmt: skip
    expected = generate(rows, job_of(run, model, run.evaluation.batch), card, device="cpu")
    loaded = load_model(model, attention="sdpa").eval()
    for _ in range(2):  # the first one warms up
        began = time.perf_counter()
        made = loaded.generate_batch(inputs, generation_config=settings, warmup=False)
        seconds = time.perf_counter() - began
    wrote = {tuple(one.prompt_ids): one.generated_tokens for one in made.values()}
    for tokens, one in zip(inputs, expected, strict=True):
        if [t for t in wrote[tuple(tokens)] if t != layout.eos] != one.spoken.tolist():
            raise SystemExit("continuous batching wrote something else")
    return [sum(len(one.spoken) for one in expected) / seconds]


def pools(run: RunConfig, model: Path, corpus: Path, rounds: int) -> dict[int, list[float]]:
    """Return the utterances a second of one evaluator and of two, a number a round."""
    found: dict[int, list[float]] = {1: [], 2: []}
    job = job_of(run, model, run.evaluation.batch)
    for _ in range(rounds):
        for count, speeds in found.items():
            resources = run.resources.model_copy(update={"evaluators": count})
            with EvaluatorPool(str(corpus), run.evaluation, resources) as pool:
                pool.wait_until_ready()
                warm = [pool.dispatcher.run.remote(job, f"warm#{n}") for n in range(count)]
                ray.get(warm)
                began = time.perf_counter()
                asked = [pool.dispatcher.run.remote(job, f"es#{n}") for n in range(JOBS)]
                heard: list[Evaluation] = [one.result for one in ray.get(asked)]
                seconds = time.perf_counter() - began
                speeds.append(sum(len(one.sentences) for one in heard) / seconds)
    return found


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path, help="YAML of a search; its corpus is prepared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    options = parser.parse_args()
    raystt.prepare(options.space)
    torch.set_num_threads(1)
    search = load_search(options.space)
    run = search.run_for(search.languages[0], {}, name="evaluated")
    corpus = Path(run.corpus.path).resolve()
    with tempfile.TemporaryDirectory(prefix="raystt-evaluation-") as folder:
        trained = train_segment(whole_run(run, corpus, Path(folder)))
        tokens = generation(run, trained.model, corpus, options.rounds)
        joined = {1: tokens[1], run.evaluation.batch: continuous(run, trained.model, corpus)}
        with ray_session(run.resources, pools=False):
            utterances = pools(run, trained.model, corpus, options.rounds)
    rows: list[dict[str, Any]] = []
    for what, unit, found in (
        ("generation, prompts at a time", "tokens/s", tokens),
        ("generation, continuous batching", "tokens/s", joined),
        ("evaluation, evaluators", "utterances/s", utterances),
    ):
        medians = {size: statistics.median(speeds) for size, speeds in found.items()}
        for size, speeds in found.items():
            ratio = medians[size] / medians[1]
            rows.append({"what": what, "count": size, unit: round(medians[size], 2),
                         "all": [round(one, 2) for one in speeds],
                         "ratio": round(ratio, 2)})  # fmt: skip
            print(f"{what}: {size}: {medians[size]:.1f} {unit}, ratio {ratio:.2f}")
    if options.save:
        save("evaluation", "one by one", {"rounds": options.rounds, "jobs": JOBS}, rows,
             packages=["ray", "torch", "transformers"])  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
