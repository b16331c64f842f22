"""What a config will cost: hours, memory and disk. Estimates, each with its assumptions.

A matrix of P parameters costs 2 P operations a token forward and twice that backward (Kaplan et
al. 2020, section 2.1). Attention over a sequence of L tokens costs 2 L^2 x its width a layer
forward, half of the full square because it is causal. Interleaving makes sequences shorter, so
the lengths follow the achieved ratio of the schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from raystt.checking import size
from raystt.checking.lengths import Counts, Lengths, achieved
from raystt.config import RunBase, RunConfig, SearchConfig
from raystt.corpus.card import Card

_MOMENTS = (np.arange(100) + 0.5) / 100  # of the horizon, at which a schedule is looked at
_SENTENCES = 1000  # of a split whose size is not known yet

Pairs = Mapping[tuple[str, str], int | None]
"""Sentence pairs by language and split, None where nobody has counted them."""


@dataclass(frozen=True)
class Device:
    """What a process computes on."""

    name: str
    bf16: float  # most operations a second; `fp32` the same in fp32
    fp32: float
    utilisation: float  # share of that which training reaches
    bandwidth: float | None  # bytes a second from its memory; None if it does not bound generation
    launch: float  # least seconds of a pass through the model, spent on launching it
    memory: float | None  # bytes; None if it is not a limit
    reserve: float  # bytes that a process holds before there is a model


A100 = Device("A100 80 GB", 312e12, 19.5e12, 0.35, 2.0e12, 0.025, 80e9, 3e9)
"""NVIDIA's data sheet; 35 % is what good training of a model of a billion parameters reaches."""
CPU = Device("CPU process of one thread", 45e9, 45e9, 1.0, None, 0.003, None, 0.7e9)
"""As a slow, shared core of an AMD EPYC trained the quickstart; others are twice as fast."""
# Measured on that CPU too, with the quickstart:
_HEARD = 0.1  # seconds a sentence of vocoder and pocketsphinx
_PREPARED = (200.0, 0.1)  # seconds of an embedded corpus: for its models, and for each pair
_SHARED = 0.7  # of a core's speed is left when all are busy: two are often threads of one


@dataclass(frozen=True)
class Cost:
    """What all trials need together."""

    parameters: int  # units included
    device: str  # what the hours are of
    devices: float  # how many of them work at a time
    hours: dict[str, float]  # device-hours by purpose
    days: float  # on those devices if they are never idle
    memory: dict[str, size.Bytes]  # of a process of each pool, by purpose
    limits: dict[str, float]  # bytes that such a process may hold, where that is known
    disk: size.Bytes  # at most at a time, by purpose
    assumptions: tuple[str, ...]

    def excess(self) -> Iterator[tuple[str, float, float, str]]:
        """Yield what is estimated not to fit: process, bytes needed, bytes there, and a fix."""
        for name, limit in self.limits.items():
            need = sum(self.memory[name].values())
            if need > limit:
                yield name, need, limit, _LESS[name]


_LESS = {
    "trainer": "lower training.micro_batch_tokens, or raise training.zero_stage or "
    "resources.workers_per_trainer, or use model.gradient_checkpointing",
    "evaluator": "lower evaluation.batch, or raise resources.gpus_per_evaluator",
}


def estimate(
    config: RunConfig | SearchConfig,
    card: Card | None,
    lengths: Mapping[str, Lengths],
    words: Counts,
    pairs: Pairs,
) -> Cost | None:
    """Estimate what a run or a search costs; None if the model's sizes are not known here.

    Args:
        config: The run or search.
        card: The prepared corpus, if it is.
        lengths: Mean lengths of each language.
        words: Words of sentences, for the achieved ratio.
        pairs: Sentence pairs, guessed ones too.
    """
    base: RunBase = config.base if isinstance(config, SearchConfig) else config
    known, resources = size.base_model(base, card), base.resources
    if known is None:
        return None
    model, new = size.with_units(known, base, card)
    gpu = resources.gpus_per_worker > 0
    device, bf16 = (A100, base.training.precision != "fp32") if gpu else (
        CPU, base.training.precision == "bf16")  # fmt: skip
    train = evaluate = prepare = 0.0
    runs = list(_runs(config))
    for language, run, count, reported in runs:
        train += count * training_seconds(model, run, lengths[language], words, device, bf16)
        scored = {run.evaluation.report_split: reported, run.evaluation.split: count}
        for split, times in scored.items():
            sentences = min(run.evaluation.sentences or 10**9, pairs[language, split] or _SENTENCES)
            evaluate += times * evaluation_seconds(model, run, lengths[language], sentences, device)
    if base.corpus.reader == "embedded" and card is None:
        prepare = _PREPARED[0] + _PREPARED[1] * sum(count or 0 for count in pairs.values())
    trainers = float(resources.trainers * resources.workers_per_trainer)
    evaluators = float(resources.evaluators)
    if gpu:
        trainers *= resources.gpus_per_worker
        evaluators *= resources.gpus_per_evaluator
    devices = trainers + evaluators
    busy = max(train / trainers, evaluate / max(evaluators, 1e-9))
    if not gpu and resources.address is None:  # the processes share the cores of this machine
        devices = min(devices, resources.local_cpus())
        busy = max(busy, (train + evaluate) / (devices * _SHARED))
    trials, first = sum(count for _, _, count, _ in runs), runs[0][1]
    segments = config.fidelity.segments if isinstance(config, SearchConfig) else 1
    written, trained = (2 if bf16 else 4) * model.parameters, model.trained(first, new)
    engine = (12 if bf16 else 8) * trained
    checkpoints = first.training.checkpoint_every is not None
    # the longest pairs of all languages: a process must hold them all in turn
    longest = max(lengths.values(), key=lambda one: one.source_units + one.target_units)
    reserve = {"reserve": device.reserve}
    shares = {"trainer": resources.gpus_per_worker, "evaluator": resources.gpus_per_evaluator or 1}
    return Cost(
        parameters=model.parameters,
        device=device.name,
        devices=devices,
        hours={
            "preparation": prepare / 3600, "training": train / 3600, "evaluation": evaluate / 3600
        },
        days=(busy + prepare / (devices * _SHARED)) / 86400,
        memory={
            "trainer": size.trainer_memory(model, first, longest, new, bf16) | reserve,
            "evaluator": size.evaluator_memory(model, first, longest) | reserve,
        },
        limits={name: device.memory * min(share, 1.0) for name, share in shares.items()}
        if device.memory is not None else {},
        disk={
            "models": _models(config) * written,
            "states between segments": (segments - 1) * trials * (written + engine),
            # two of each segment are kept, and a third one is being written
            "checkpoints": 3 * resources.trainers * (written + engine) if checkpoints else 0,
            # of the training speech, while the corpus is prepared
            "features": 0.0 if card else size.feature_bytes(base.corpus, longest),
            "shards": sum(
                (pairs[name, "train"] or 0) * size.row_bytes(one) for name, one in lengths.items()
            ),
        },
        assumptions=tuple(_assumptions(known.basis, base, device, bf16)),
    )  # fmt: skip


def _models(config: RunConfig | SearchConfig) -> int:
    """Return how many models lie there at most: what `keep` may need, and those in the making."""
    if isinstance(config, RunConfig):
        return 1
    if config.keep == "all" or config.fidelity.segments > 1:  # prefixes stay to the end
        return sum(count for _, _, count, _ in _runs(config))
    # Until the end, what leads is kept for its score on the report split, and the fixed runs are.
    held = (len(config.fixed(name)) + max(1, config.confirm.top) for name in config.languages)
    return sum(held) + config.base.resources.trainers


def _runs(config: RunConfig | SearchConfig) -> Iterator[tuple[str, RunConfig, int, int]]:
    """Go through language, run, number of such runs, and how many are scored on `report_split`.

    Proposals, and what is trained anew on fresh seeds, are taken to be the base run. Of proposals,
    the best alone is scored on both splits.
    """
    if isinstance(config, RunConfig):
        yield config.language, config, 1, 1
        return
    for language in config.languages:
        fixed = config.fixed(language)
        for name in fixed:
            yield language, config.run_for(language, config.reference(name)), 1, 1
        proposals = config.trials_of(language) - len(fixed)
        if proposals:
            fresh = config.confirmations_of(language)
            yield language, config.run_for(language, {}), proposals + fresh, 1 + fresh


def training_seconds(
    model: size.Model, run: RunConfig, lengths: Lengths, words: Counts, device: Device, bf16: bool
) -> float:
    """Return the device-seconds of a training run; a tiny model is bound by launching.

    `model` has its units; `words` are of sentences that the achieved ratio is simulated on. The
    spread of the lengths is left out.
    """
    schedule, training = run.schedule, run.training
    nominal = [schedule.ratio(float(moment)) for moment in _MOMENTS]
    ratios = achieved(run.interleaving, words, nominal)
    tokens = np.array([lengths.tokens(run.interleaving, ratio) for ratio in ratios])
    # adapters spare the gradients of matrices, and attention has none of those
    dense = _operations(run) * model.matrices * tokens
    attention = (
        (8 if run.model.gradient_checkpointing else 6) * model.layers * model.attention * tokens**2
    )
    flops = training.steps * training.batch_utterances * float(np.mean(dense + attention))
    launching = 4 * training.steps * device.launch  # two passes back, one update
    rate = (device.bf16 if bf16 else device.fp32) * device.utilisation
    return max(flops / rate, launching * run.resources.workers_per_trainer)


def _operations(run: RunBase) -> int:
    """Return the operations a parameter and token: 2 a pass, of which one may be made again."""
    return 2 * ((2 if run.model.lora else 3) + (1 if run.model.gradient_checkpointing else 0))


def evaluation_seconds(
    model: size.Model, run: RunConfig, lengths: Lengths, sentences: int, device: Device
) -> float:
    """Return the time to score `sentences`; of vocoder and recogniser only pocketsphinx is known.

    A step of generation reads all weights (fp32) for one token of each sentence of the batch, so
    on a GPU it is bound by memory or by launching. A batch goes on until its longest sentence is
    done, which is taken to be twice the mean.
    """
    evaluation, rate = run.evaluation, device.fp32 * device.utilisation
    steps = min(2 * lengths.generated(run.interleaving), float(evaluation.max_new_tokens))
    prompts = sentences * 2 * model.matrices * (lengths.source_units + 2) / rate
    a_step = 2 * model.matrices * min(sentences, evaluation.batch) / rate
    reading = 4 * model.parameters / device.bandwidth if device.bandwidth else 0.0
    batches = -(-sentences // evaluation.batch)
    heard = _HEARD * sentences if evaluation.asr == "pocketsphinx" else 0.0
    return prompts + batches * steps * max(a_step, reading, device.launch) + heard


def _assumptions(basis: str, base: RunBase, device: Device, bf16: bool) -> Iterator[str]:
    peak = (device.bf16 if bf16 else device.fp32) / 1e9
    used = f" at {device.utilisation:.0%}" if device.utilisation < 1 else ""
    yield f"model: {basis}"
    yield (
        f"{device.name}: {peak:,g} GFLOP/s in {'bf16' if bf16 else 'fp32'}{used}, a pass at least "
        f"{1000 * device.launch:g} ms"
    )
    if device is CPU:
        yield f"{_SHARED:.0%} of that where all cores are busy"
    yield f"training {_operations(base)} operations a parameter and token, plus attention"
    recogniser = size.recogniser(base.evaluation)[1]
    if recogniser is not None:
        yield f"recogniser: {recogniser}"
    if base.evaluation.asr == "pocketsphinx":
        yield f"{_HEARD:g} s a sentence of vocoder and recogniser"
    else:
        yield "not counted: time of vocoder and recogniser"
    if base.corpus.reader != "embedded":
        yield "not counted: preparing the corpus"
