"""Results of a search: one typed record from the trial that made it to disk, Tune and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from raystt.config.entry import Value
from raystt.config.search import Objective
from raystt.errors import BadInput
from raystt.schedule import AnySchedule

METRICS = ("chrf", "text_bleu", "source_text_bleu", "utmos")
"""What may be measured beside ASR-BLEU; None in a result where it was not."""


_Name = Annotated[str, Field(pattern=r"^\w+$")]  # of a directory that may be deleted


class ResultsError(BadInput):
    """Results cannot be used; the text says which, where they stand, and the fix."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to be run: its number in the study of its language, and what is its own.

    Attributes:
        language: Source language, such as "es".
        trial: Number of the trial in its language's study, from 0.
        reference: Name of the fixed run (reference or ablation) it is, or None for a proposal.
        seed: Seed of its training.
        overrides: Flat dotted keys by which it differs from the search's base.
        origin: Where its values come from: `sobol`, a sampler's name, or the trial of another
            language that it repeats, such as `es#4`; empty for a fixed run.
        fresh: Whether it is a trial trained anew, on another seed than the search's.
        knob: Of a neighbour of the trial, trained anew: the key that differs and the direction,
            such as `schedule.end+`.
    """

    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False)  # of lines that are read

    language: str
    trial: Annotated[int, Field(ge=0)]
    reference: str | None
    seed: int
    overrides: Mapping[str, Value]
    origin: str = ""
    fresh: bool = False
    knob: Annotated[str, Field(pattern=r"^([\w.]+[+-])?$")] = ""  # names a directory

    @property
    def label(self) -> str:
        """What a person calls it: `es#3`, and on the fresh seed 2 `es#3/2`, its neighbour
        `es#3/2 schedule.end+`.
        """
        fresh = f"/{self.seed} {self.knob}".rstrip() if self.fresh else ""
        return label_of(self.language, self.trial) + fresh

    @property
    def folder(self) -> str:
        """Name of its folder under `trials/` and `tune/`: `es-003`."""
        fresh = f"-seed{self.seed}" + f"-{self.knob}" * bool(self.knob) if self.fresh else ""
        return f"{self.language}-{self.trial:03d}{fresh}"

    def anew(self, seed: int) -> Proposal:
        """Return it as a trial that is trained anew on a fresh seed."""
        return Proposal(**{**self.identity(), "seed": seed, "fresh": True})

    def identity(self) -> dict[str, Any]:
        """Return its fields, for a result or a failure of it."""
        return {
            **_identity(self),
            "overrides": self.overrides,
            "fresh": self.fresh,
            "knob": self.knob,
        }

    def proposal(self) -> Proposal:
        """Return what was proposed, of a result or a failure."""
        return Proposal(**self.identity())

    def config(self) -> dict[str, Any]:
        """Return it as the flat config of a Tune trial."""
        return {**_identity(self), **self.overrides}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Proposal:
        """Read it from the config of a Tune trial: every dotted key is an override."""
        named = {name: config[name] for name in _IDENTITY}
        return cls(**named, overrides={k: v for k, v in config.items() if "." in k})


# The keys of a Tune trial's config that are no overrides; one on a fresh seed is no Tune trial.
_ASIDE = ("overrides", "fresh", "knob")
_IDENTITY = tuple(f.name for f in fields(Proposal) if f.name not in _ASIDE)


def _identity(of: Proposal) -> dict[str, Any]:
    return {name: getattr(of, name) for name in _IDENTITY}


def label_of(language: str, trial: int) -> str:
    """Return what a person calls a trial: `es#3`."""
    return f"{language}#{trial}"


def parts(label: str) -> tuple[str, int, int | None]:
    """Return language, number and fresh seed, if any, that a proposal's label names."""
    language, _, rest = label.partition("#")
    number, _, seed = rest.partition(" ")[0].partition("/")
    return language, int(number), int(seed) if seed else None


@dataclass(frozen=True, kw_only=True)
class Failure(Proposal):
    """A trial that could not be run, and why.

    Attributes:
        error: The worker's own error.
        time: When, Unix seconds.
    """

    error: str
    time: float


@dataclass(frozen=True, kw_only=True)
class Result(Proposal):
    """One finished evaluation of one trial.

    Attributes:
        split: Corpus split that was evaluated.
        status: "complete", or "diverged" (training was not finite; scored 0).
        schedule: The schedule that was trained, with all its keys.
        step: Optimiser steps trained.
        steps: Horizon of the trial in optimiser steps.
        asr_bleu: Corpus ASR-BLEU in [0, 100].
        asr_bleu_low: Lower bound of its 95 % bootstrap interval.
        asr_bleu_high: Upper bound.
        signature: sacrebleu's signature with recogniser, vocoder and normaliser.
        sentences: Number of sentences scored.
        truncated: Share of them that the model did not end within `evaluation.max_new_tokens`.
        chrf: chrF of the recognised speech.
        text_bleu: BLEU of the translation written in chain of thought.
        source_text_bleu: BLEU of the transcript written in chain of thought.
        utmos: Predicted naturalness, 1 to 5.
        signatures: Signatures of those of `METRICS` that were measured.
        loss: Loss of the last step, nats a predicted token; None where it was not finite.
        ratio: Nominal text ratio of the last step.
        achieved_words: Share of the words that were text in training, in [0, 1].
        tokens: Tokens trained on.
        train_seconds: Time the trainers worked on it.
        setup_seconds: Time they took to load models and states.
        evaluate_seconds: Time the evaluators worked.
        wait_seconds: Time in the queues of the pools.
        overhead_seconds: Time of the trial's slot that was none of these, from the end of the
            trial before.
        started: Start of the trial, Unix seconds.
        ended: End of the evaluation, Unix seconds.
        states: Names under `states/` of what it trained, the last one with the model.
    """

    split: str
    status: Literal["complete", "diverged"]
    schedule: AnySchedule
    step: int
    steps: int
    asr_bleu: float
    asr_bleu_low: float
    asr_bleu_high: float
    signature: str
    sentences: int
    truncated: float
    chrf: float | None
    text_bleu: float | None
    source_text_bleu: float | None
    utmos: float | None
    signatures: Mapping[str, str]
    loss: float | None
    ratio: float
    achieved_words: float
    tokens: int
    train_seconds: float
    setup_seconds: float
    evaluate_seconds: float
    wait_seconds: float
    overhead_seconds: float
    started: float
    ended: float
    states: Annotated[tuple[_Name, ...], Field(min_length=1)]

    @property
    def ci(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of `asr_bleu`."""
        return self.asr_bleu_low, self.asr_bleu_high

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured beside ASR-BLEU, by name."""
        found = {name: getattr(self, name) for name in METRICS}
        return {name: value for name, value in found.items() if value is not None}

    def value(self, objective: Objective) -> float:
        """Return the score that trials are compared by; 0 where training diverged."""
        return float(getattr(self, objective) or 0.0)

    def report(self) -> dict[str, Any]:
        """Return what a Tune trial reports of it: all that is not in the trial's config.

        `timesteps_total` is Tune's name of the step; loggers take it for the abscissa.
        """
        return {
            **UNKNOWN,
            **{name: getattr(self, name) for name in REPORTED if name != "signatures"},
            **{_SIGNATURE + name: signature for name, signature in self.signatures.items()},
            "states": " ".join(self.states),
            "timesteps_total": self.step,
        }

    @classmethod
    def from_report(
        cls, proposal: Proposal, schedule: AnySchedule, report: Mapping[str, Any]
    ) -> Result:
        """Read it from the last report of a Tune trial."""
        signatures = {
            name: report[_SIGNATURE + name]
            for name in METRICS
            if report.get(_SIGNATURE + name) is not None
        }
        values = {name: report[name] for name in REPORTED if name not in ("states", "signatures")}
        return cls(
            **proposal.identity(),
            schedule=schedule,
            signatures=signatures,
            states=tuple(report["states"].split()),
            **values,
        )


REPORTED = tuple(f.name for f in fields(Result) if f.name not in (*_IDENTITY, *_ASIDE, "schedule"))
"""Fields of a result that a Tune trial reports; signatures by a key of each."""

_SIGNATURE = "signatures/"

UNKNOWN: Mapping[str, None] = dict.fromkeys(
    [name for name in REPORTED if name != "signatures"] + [_SIGNATURE + name for name in METRICS]
)
"""What a Tune trial reports before its end. Each report has all keys: a CSV has the first's."""
