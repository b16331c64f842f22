"""The config of a search: languages, trials, references, ablations, a space and the base run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raystt import schedule as schedules
from raystt.config.base import Count, Name, Part
from raystt.config.checks import complaints, searchable
from raystt.config.entry import Value
from raystt.config.run import IMMATERIAL, RunBase, RunConfig, check_schedule, fingerprint
from raystt.config.space import Space
from raystt.config.validation import Invalid, build, nearest
from raystt.config.yaml_source import Source, read

Reference = Literal["none", "paper", "constant"]
"""What a search can be measured against; further fixed runs are its `ablations`."""

REFERENCES: dict[str, dict[str, Any]] = {
    "none": {"shape": "constant", "initial": 0.0},
    "paper": {
        "shape": "staircase",
        "initial": 0.9,
        "final": 0.0,
        "hold": 0.0,
        "end": 0.8,
        "step": 0.1,
    },
    "constant": {"shape": "constant", "initial": 0.3},
}
"""The schedules that every study starts with, unless `reference_schedules` says otherwise."""


_IMMATERIAL = {"name": True, "trials": True, "keep": True, "tracking": True}


class SamplerConfig(Part):
    """How values are proposed."""

    name: Literal["tpe", "random"] = Field(default="tpe", description="Optuna's sampler")
    startup_trials: int = Field(
        default=5,
        ge=0,
        description="trials of a language, references included, before TPE's model is used",
    )


class FidelityConfig(Part):
    """In how many parts a trial is trained."""

    segments: Count = Field(
        default=1, description="equal segments; the trial may be resumed at each"
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
    trials: Count | None = Field(
        description="trials a language, fixed runs included; null = these alone"
    )
    objective: Literal["asr_bleu"] = Field(default="asr_bleu", description="score to be maximised")
    sampler: SamplerConfig = SamplerConfig()
    fidelity: FidelityConfig = FidelityConfig()
    references: Annotated[tuple[Reference, ...], Field(strict=False)] = Field(
        default=("none", "paper", "constant"), description="reference schedules, run first"
    )
    reference_schedules: dict[str, dict[str, Any]] = Field(
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
    space: Space
    base: RunBase

    @model_validator(mode="after")
    def _makes_sense(self) -> SearchConfig:
        found = complaints(self)
        if found:
            raise Invalid(found)
        return self

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

    @property
    def total_trials(self) -> int:
        """Trials of all languages."""
        return sum(self.trials_of(language) for language in self.languages)

    def reference(self, name: str) -> dict[str, Any]:
        """Return the overrides of a fixed run, its schedule written out in full.

        Args:
            name: A reference (`none`, `paper`, `constant`), or an ablation.

        Raises:
            Invalid: The ablation changes its schedule to one that there cannot be.
        """
        ablation = self.ablations.get(name)
        changes = ablation.set if ablation else {}
        origin = ablation.of if ablation else name
        schedule = check_schedule(self.reference_schedules.get(origin) or REFERENCES[origin])
        own = {key.removeprefix("schedule."): value for key, value in changes.items()
               if key.startswith("schedule.")}  # fmt: skip
        if own:
            schedule = check_schedule(merge_schedule(schedule.as_dict(), own))
        rest = {key: value for key, value in changes.items() if not key.startswith("schedule.")}
        return {f"schedule.{key}": value for key, value in schedule.as_dict().items()} | rest

    def run_for(
        self, language: str, overrides: Mapping[str, Any], *, name: str | None = None
    ) -> RunConfig:
        """Return the run of a trial.

        Args:
            language: Source language of the trial.
            overrides: Values by dotted key of `base`, such as `Space.suggest` returns.
            name: Name of the run; the search's own and the language if it is not given.

        Raises:
            ValueError: An override does not fit `base`. Loading a search tries the extremes of its
                space, so this does not happen to its own proposals.
        """
        data = self.base.model_dump(mode="python")
        changes: dict[str, Any] = {}
        for key, value in overrides.items():
            section, _, field = key.partition(".")
            if section not in ("schedule", "interleaving", "training"):
                raise ValueError(
                    f"{key}: no such key can be searched; {nearest(key, searchable())}"
                )
            if section == "schedule":
                changes[field] = value
            else:
                data[section][field] = value
        data["schedule"] = merge_schedule(data["schedule"], changes)
        name = name or f"{self.name}-{language}"
        return RunConfig.model_validate(
            {"name": name, "seed": self.seed, "language": language, **data}
        )

    def fingerprint(self) -> str:
        """Hash what a resumed search must not change (16 hex digits).

        The number of trials is left out, so that a finished search can be given more of them;
        so are the name and what decides no score (`IMMATERIAL`).
        """
        return fingerprint(self, exclude={**_IMMATERIAL, "base": IMMATERIAL})


def merge_schedule(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change some keys of a schedule, dropping those that a new shape does not have."""
    shape = changes.get("shape", base["shape"])
    if shape not in schedules.SHAPES:
        return {**base, **changes}
    kept = {field.name for field in dataclasses.fields(schedules.SHAPES[shape])}
    if "constant" in (shape, base["shape"]):
        # a constant's final, hold and end follow from its initial ratio: they are no one's choice
        kept = {"initial"}
    return {**{k: v for k, v in base.items() if k in kept}, "shape": shape, **changes}


def load_search(path: Path | str) -> SearchConfig:
    """Read the config of a search.

    Raises:
        ConfigError: with every problem of the file as `FILE:LINE: key.path: reason; fix`.
    """
    return build(SearchConfig, read(path))


def load_any(path: Path | str) -> RunConfig | SearchConfig:
    """Read a search if the file has `space` or `base`, else a run.

    Raises:
        ConfigError: see `load_search`.
    """
    return parse_any(read(path))


def parse_any(source: Source) -> RunConfig | SearchConfig:
    """Validate a file that was read already (see `load_any`)."""
    if "space" in source.data or "base" in source.data:
        return build(SearchConfig, source)
    return build(RunConfig, source)
