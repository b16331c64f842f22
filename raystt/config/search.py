"""The config of a search: languages, trials, references, ablations, a space and the base run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from raystt.config.base import Count, Name
from raystt.config.entry import Value
from raystt.config.overrides import SEARCHABLE, flat, merge_schedule, unsearchable
from raystt.config.run import IMMATERIAL, RunBase, RunConfig, fingerprint
from raystt.config.space import Space
from raystt.interleaving.rules import Interleaving
from raystt.schedule import AnySchedule, Constant, Linear, Schedule, Staircase
from raystt.strict import Part

Reference = Literal["none", "paper", "constant", "thirds"]
"""What a search can be measured against; further fixed runs are its `ablations`."""

REFERENCES: dict[str, Schedule] = {
    "none": Constant(initial=0.0),
    "paper": Staircase(initial=0.9, final=0.0, hold=0.0, end=0.8, step=0.1),
    "constant": Constant(initial=0.3),
    # arXiv 2510.06195: text alone for a third, then less of it, then none for a third.
    "thirds": Linear(initial=1.0, final=0.0, hold=1 / 3, end=2 / 3),
}
"""The schedules that every study starts with, unless `reference_schedules` says otherwise."""

BASELINE = "paper"
"""The reference that is to be beaten."""

Objective = Literal["asr_bleu", "chrf", "text_bleu"]

OBJECTIVES: dict[Objective, str] = {
    "asr_bleu": "ASR-BLEU",
    "chrf": "chrF",
    "text_bleu": "text BLEU",
}
"""What a search can maximise, and what people call it."""


DEFAULT_SPACE = Space.model_validate({
    "schedule.shape": {"choice": ["knots"]},
    "schedule.initial": {"float": [0.3, 1.0]},
    "schedule.end": {"float": [0.3, 1.0]},
    "schedule.first_at": {"float": [0.1, 0.9]},
    "schedule.first_left": {"float": [0.0, 1.0]},
    "schedule.second_at": {"float": [0.1, 0.9]},
    "schedule.second_left": {"float": [0.0, 1.0]},
})  # fmt: skip
"""What is searched where a search names no space: the family of `raystt.schedule.Knots`."""

_IMMATERIAL = {"name": True, "trials": True, "confirm": True, "keep": True, "tracking": True}


class TransferConfig(Part):
    """What languages learn from each other."""

    top: int = Field(
        default=2,
        ge=0,
        description="most trials of a language that repeat what leads in another one",
    )


class FidelityConfig(Part):
    """In how many parts a trial is trained."""

    segments: Count = Field(
        default=1,
        description="equal segments; a trial that was cut off goes on after its last whole one",
    )


class ConfirmConfig(Part):
    """What is trained anew before a search answers: the highest of many scores flatters itself.

    One on four seeds reports the truest score for its cost (docs/search.md): to choose among
    several by their fresh means flatters again.
    """

    top: int = Field(
        default=1,
        ge=0,
        description="leading proposals and ablations of a language that are; 0 = none",
    )
    seeds: int = Field(
        default=4,
        ge=2,  # one training run ranks nothing
        description="fresh seeds that each of them is trained on, and the references",
    )
    certificate: bool = Field(
        default=False,
        description="train the best's neighbours too, each number of the space a notch up and down",
    )


class AblationConfig(Part):
    """A fixed run: a reference with some keys of the run changed, such as a control of the paper.

    ```yaml
    ablations:
      source_only: {languages: [pt], set: {interleaving.side: source}}
      slow: {of: paper, set: {schedule.end: 1.0}}
    ```
    """

    of: Reference = Field(default="paper", description="reference whose schedule it starts from")
    set: dict[str, Value] = Field(
        min_length=1, description="what differs from it, by dotted key as in `space`"
    )
    languages: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="run for these languages only; empty = all"
    )


class SearchConfig(Part):
    """A search: one study a language, all over the same base run.

    A study starts with its fixed runs (the references and then the ablations of its language) and
    goes on with proposals from the space until it has its trials.
    """

    name: Name = Field(description="directory of the search under `base.storage`")
    seed: int = Field(default=1, ge=0, description="seed of the sampler and of every trial")
    languages: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        description="source languages, one study each"
    )
    trials: int | None = Field(
        ge=1,
        le=100_000,
        description="trials a language, fixed runs included; null = these alone",
    )
    objective: Objective = Field(
        default="asr_bleu",
        description="score that trials are compared by: of the recognised speech, ASR-BLEU or "
        "chrF; text_bleu = BLEU of the translation written in chain of thought",
    )
    sampler: Literal["auto", "tpe", "gp", "cmaes", "nsgaii", "random", "sobol"] = Field(
        default="auto",
        description="Optuna's sampler; auto = tpe, and sobol alone for 12 trials or fewer",
    )
    transfer: TransferConfig = TransferConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    fidelity: FidelityConfig = FidelityConfig()
    references: Annotated[tuple[Reference, ...], Field(strict=False)] = Field(
        default=("none", "paper", "constant", "thirds"),
        description="reference schedules, run first",
    )
    reference_schedules: dict[str, AnySchedule] = Field(
        default_factory=dict, description="own schedules in place of the references' usual ones"
    )
    ablations: dict[str, AblationConfig] = Field(
        default_factory=dict, description="further fixed runs by name, after the references"
    )
    keep: Literal["best", "fixed", "all"] = Field(
        default="fixed",
        description="models to keep at the end: the best of each language; fixed = and the fixed "
        "runs'; all",
    )
    tracking: Annotated[tuple[Literal["mlflow", "wandb"], ...], Field(strict=False)] = Field(
        default=(), description="trackers that are told of every trial, beside TensorBoard"
    )
    space: Space = Field(default_factory=lambda: DEFAULT_SPACE, description="what is searched")
    base: RunBase

    def fixed(self, language: str) -> tuple[str, ...]:
        """Name the fixed runs of a language in the order they run: references, then ablations."""
        ablations = (
            name
            for name, ablation in self.ablations.items()
            if not ablation.languages or language in ablation.languages
        )
        return (*self.references, *ablations)

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """The fixed runs of all languages, in the order they run."""
        return (*self.references, *self.ablations)

    def trials_of(self, language: str) -> int:
        """Return the trials of a language; the fixed ones alone where nothing can be proposed."""
        fixed = len(self.fixed(language))
        searched = any(
            not entry.languages or language in entry.languages for entry in self.space.root.values()
        )
        return self.trials if self.trials is not None and searched else fixed

    def confirmations_of(self, language: str) -> int:
        """Return the most trainings of a language on fresh seeds: leading ones, references."""
        trials = self.trials_of(language)
        proposed = trials > len(self.fixed(language))
        leading = min(self.confirm.top, trials - len(self.references)) if proposed else 0
        held = min(2, len(self.references))  # the paper's, and the best
        neighbours = 0
        if self.confirm.certificate:
            neighbours = 2 * sum(entry.has_numbers for entry in self.space.root.values())
        return (leading + held + neighbours) * self.confirm.seeds if leading else 0

    @property
    def total_trials(self) -> int:
        """Trials of all languages."""
        return sum(self.trials_of(language) for language in self.languages)

    @property
    def interleaving(self) -> Interleaving | None:
        """The interleaving of all trials; None where they differ in it."""
        varied = any(key.startswith("interleaving.") for key in self.space.root)
        return None if varied else self.base.interleaving

    def reference(self, name: str) -> dict[str, Any]:
        """Return the overrides of a fixed run, its schedule written out in full.

        Args:
            name: A reference, such as `paper`, or an ablation.
        """
        ablation = self.ablations.get(name)
        changes = ablation.set if ablation else {}
        origin = ablation.of if ablation else name
        schedule = merge_schedule(
            self.reference_schedules.get(origin) or REFERENCES[origin],
            changes,
        )
        rest = {key: value for key, value in changes.items() if not key.startswith("schedule.")}
        return flat("schedule", schedule) | rest

    def run_for(
        self,
        language: str,
        overrides: Mapping[str, Any],
        *,
        name: str | None = None,
        seed: int | None = None,
    ) -> RunConfig:
        """Return the run of a trial.

        Args:
            language: Source language of the trial.
            overrides: Values by dotted key of `base`, such as `Space.suggest` returns.
            name: Name of the run; the search's own and the language if it is not given.
            seed: Seed of its training; the search's own if it is not given.

        Raises:
            ValueError: An override does not fit `base`. Loading a search tries the extremes of its
                space, so this does not happen to its own proposals.
        """
        data = self.base.model_dump(mode="python")
        for key, value in overrides.items():
            section, _, field = key.partition(".")
            if section not in SEARCHABLE:
                raise ValueError(f"{key}: {'; '.join(unsearchable(key))}")
            if section != "schedule":
                data[section][field] = value
        data["schedule"] = merge_schedule(self.base.schedule, overrides)
        name = name or f"{self.name}-{language}"
        return RunConfig.model_validate(
            {
                "name": name,
                "seed": self.seed if seed is None else seed,
                "language": language,
                **data,
            }
        )

    def fingerprint(self) -> str:
        """Hash what a resumed search must not change (16 hex digits).

        The number of trials is left out, so that a finished search can be given more of them;
        so are the name and what decides no score (`IMMATERIAL`).
        """
        return fingerprint(self, exclude={**_IMMATERIAL, "base": IMMATERIAL})
