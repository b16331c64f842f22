"""What a config will cost: device-hours, memory and disk. Estimates, each with its assumptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from raystt.checking.architecture import Architecture, find_architecture
from raystt.checking.flops import (
    A100,
    CPU,
    Device,
    generation_seconds,
    training_flops,
    training_seconds,
)
from raystt.checking.lengths import Counts, Lengths
from raystt.checking.memory import (
    evaluator_memory,
    model_bytes,
    shard_bytes,
    state_bytes,
    trainer_memory,
)
from raystt.config import SearchConfig
from raystt.config.run import RunBase, RunConfig
from raystt.corpus.card import Card

_NEW_TOKENS = 8  # framing, mask and modality tokens beside the units
_SENTENCES = 1000  # of a split whose size is not known yet


@dataclass(frozen=True)
class Cost:
    """What all trials need together.

    Attributes:
        parameters: Parameters of the model, its units included.
        device: What the hours are of.
        devices: How many of them the pools hold.
        train_hours: Device-hours of training, all trials.
        evaluate_hours: Device-hours of generation, all trials and splits.
        days: Time on those devices if they are never idle.
        trainer: Bytes that one training process holds, by purpose.
        evaluator: The same of one evaluation process.
        limits: Bytes that a trainer and an evaluator may hold; None if that is not known.
        disk: Bytes on disk at the end, by purpose.
        assumptions: What the numbers rest on.
    """

    parameters: int
    device: str
    devices: float
    train_hours: float
    evaluate_hours: float
    days: float
    trainer: dict[str, float]
    evaluator: dict[str, float]
    limits: tuple[float, float] | None
    disk: dict[str, float] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()

    @property
    def hours(self) -> float:
        """Device-hours of all trials."""
        return self.train_hours + self.evaluate_hours

    def warnings(self) -> Iterator[str]:
        """Say what is estimated not to fit into a device's memory."""
        if self.limits is None:
            return
        for name, need, limit, fix in (
            ("trainer", self.trainer, self.limits[0],
             "lower training.micro_batch_tokens, or raise training.zero_stage or "
             "resources.workers_per_trainer, or use model.gradient_checkpointing"),
            ("evaluator", self.evaluator, self.limits[1],
             "lower evaluation.batch, or raise resources.gpus_per_evaluator"),
        ):  # fmt: skip
            if sum(need.values()) > limit:
                yield (
                    f"a process of the {name}s is estimated to hold {_bytes(sum(need.values()))}, "
                    f"more than its {_bytes(limit)} of a GPU ({self.device}): {fix}"
                )

    def render(self) -> list[str]:
        """Return lines of text, without indentation."""
        per = "GPU" if self.limits else "CPU"
        return [
            f"model    {self.parameters / 1e6:,.4g} M parameters, units included",
            f"compute  {_hours(self.hours)} {per}-hours: training {_hours(self.train_hours)}, "
            f"generation {_hours(self.evaluate_hours)}; "
            f"{_time(self.days)} on {self.devices:g} if none is ever idle",
            f"memory   trainer {_parts(self.trainer)}",
            f"         evaluator {_parts(self.evaluator)}",
            f"disk     {_parts(self.disk)}",
        ]


def estimate(
    config: RunConfig | SearchConfig,
    card: Card | None,
    lengths: dict[str, Lengths],
    words: Counts,
    pairs: dict[str, int | None],
) -> Cost | None:
    """Estimate what a run or a search costs; None if the model's sizes are not known here.

    Args:
        config: The run or search.
        card: The prepared corpus, if it is.
        lengths: Mean lengths of each language.
        words: Words of sentences, for the achieved ratio.
        pairs: Training pairs of each language, None where not known.
    """
    base: RunBase = config.base if isinstance(config, SearchConfig) else config
    found = find_architecture(base, card)
    if found is None:
        return None
    new = _new_tokens(base, card)
    # the embedded corpus' own text model knows the special tokens already
    model = found.extended(new)
    device, bf16 = _device(base)
    train = generate = trials = 0.0
    first: RunConfig | None = None
    for language, run, count in _runs(config):
        first = first or run
        trials += count
        flops = training_flops(model, run, lengths[language], words)
        train += count * training_seconds(flops, run, device, bf16=bf16)
        for sentences, times in _scored(config, card, language, count):
            seconds = generation_seconds(model, run, lengths[language], sentences, device)
            generate += times * seconds
    assert first is not None  # a search without trials is refused
    resources, segments = base.resources, 1
    if isinstance(config, SearchConfig):
        segments = config.fidelity.segments
    # the longest pairs of all languages: a process must hold them all in turn
    longest = max(lengths.values(), key=lambda one: one.source_units + one.target_units)
    reserve = {"reserve": device.reserve}
    gpus = resources.gpus_per_worker > 0
    trainers = float(resources.trainers * resources.workers_per_trainer)
    evaluators = float(resources.evaluators)
    if gpus:
        trainers, evaluators = (
            trainers * resources.gpus_per_worker, evaluators * resources.gpus_per_evaluator
        )  # fmt: skip
    limits = None
    if device.memory is not None:
        shares = (resources.gpus_per_worker, resources.gpus_per_evaluator or 1.0)
        limits = (device.memory * min(shares[0], 1.0), device.memory * min(shares[1], 1.0))
    known = [(language, n) for language, n in pairs.items() if n is not None]
    states = (segments - 1) * trials * state_bytes(model, first, units=new, bf16=bf16)
    return Cost(
        parameters=model.parameters(),
        device=device.name,
        devices=trainers + evaluators,
        train_hours=train / 3600,
        evaluate_hours=generate / 3600,
        days=max(train / trainers, generate / max(evaluators, 1e-9)) / 86400,
        trainer={**trainer_memory(model, first, longest, units=new, bf16=bf16), **reserve},
        evaluator={**evaluator_memory(model, first, longest), **reserve},
        limits=limits,
        disk={
            "models": trials * model_bytes(model, bf16=bf16),
            **({"states between segments": states} if states else {}),
            "shards": sum(shard_bytes(lengths[language], n) for language, n in known),
        },
        assumptions=tuple(_assumptions(found, base, device, bf16)),
    )


def _new_tokens(base: RunBase, card: Card | None) -> int:
    if card is not None:
        # the corpus' own text LM counts its text tokens as its own, a pretrained one need not
        known = card.tokenizer.text_vocabulary
        return card.vocabulary - (known if base.model.base == "corpus" else
                                  card.tokenizer.base_vocabulary)  # fmt: skip
    units = base.corpus.units
    special = 0 if base.model.base == "corpus" else _NEW_TOKENS
    return units.source + (units.target or 0) + special


def _device(base: RunBase) -> tuple[Device, bool]:
    """Return what computes, and whether in bf16."""
    if base.resources.gpus_per_worker > 0:
        return A100, base.training.precision != "fp32"
    return CPU, base.training.precision == "bf16"


def _runs(config: RunConfig | SearchConfig) -> Iterator[tuple[str, RunConfig, int]]:
    """Go through language, run and number of such runs; proposals are taken to be the base run."""
    if isinstance(config, RunConfig):
        yield config.language, config, 1
        return
    for language in config.languages:
        fixed = config.fixed(language)
        for name in fixed:
            yield language, config.run_for(language, config.reference(name)), 1
        proposals = config.trials_of(language) - len(fixed)
        if proposals:
            yield language, config.run_for(language, {}), proposals


def _scored(
    config: RunConfig | SearchConfig, card: Card | None, language: str, count: int
) -> list[tuple[int, int]]:
    """Return the sentences of evaluations of `count` equal trials, and how many there are of such.

    Fixed runs are scored on the report split as well; of the proposals, the best alone.
    """
    base: RunBase = config.base if isinstance(config, SearchConfig) else config
    evaluation, held = base.evaluation, base.corpus.languages[language]

    def size(split: str) -> int:
        there = getattr(held, split)
        if card is not None:
            there = card.split(language, split).pairs
        known = [n for n in (evaluation.sentences, there) if n is not None]
        return min(known, default=_SENTENCES)

    sizes = [(size(evaluation.split), count)]
    if evaluation.report_split != evaluation.split:
        sizes.append((size(evaluation.report_split), 1))
    return sizes


def _assumptions(model: Architecture, base: RunBase, device: Device, bf16: bool) -> Iterator[str]:
    yield f"model: {model.basis}"
    peak = device.bf16 if bf16 else device.fp32
    flops = f"{peak / 1e12:g} TFLOP/s" if peak >= 1e12 else f"{peak / 1e9:g} GFLOP/s"
    used = f" at {device.utilisation:.0%}" if device.utilisation < 1 else ""
    yield (
        f"{device.name}: {flops}{' in bf16' if bf16 else ' in fp32'}{used}, a pass "
        f"at least {1000 * device.launch_seconds:g} ms"
    )
    passes = 4 if base.model.lora else 6
    passes += 2 if base.model.gradient_checkpointing else 0
    yield f"training {passes} operations a parameter and token, plus attention"
    yield "not counted: preparing the corpus, vocoder, recogniser"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _parts(parts: dict[str, float]) -> str:
    """Write a sum and what is at least a hundredth of it."""
    total = sum(parts.values())
    large = (f"{name} {_bytes(count)}" for name, count in parts.items() if count > total / 100)
    return f"{_bytes(total)}: {', '.join(large)}"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _time(days: float) -> str:
    if days >= 2:
        return f"{days:.1f} days"
    return f"{days * 24:.1f} h" if days * 24 >= 2 else f"{days * 1440:.0f} min"
