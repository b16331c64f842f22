"""The config of a search: languages, trials, references, a space and the base run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raystt import schedule as schedules
from raystt.config.parts import Count, Name, Part
from raystt.config.run import IMMATERIAL, RunBase, RunConfig, check_schedule, fingerprint
from raystt.config.validation import Invalid, build, nearest
from raystt.config.yaml_source import Source, read
from raystt.space.checks import complaints, searchable
from raystt.space.parameters import Space

Reference = Literal["none", "paper", "constant"]

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


class SearchConfig(Part):
    """A search: one study a language, all over the same base run."""

    name: Name = Field(description="directory of the search under `base.storage`")
    seed: int = Field(default=1, ge=0, description="seed of the sampler and of every trial")
    languages: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        description="source languages, one study each"
    )
    trials: Count = Field(description="trials a language, references included")
    objective: Literal["asr_bleu"] = Field(default="asr_bleu", description="score to be maximised")
    sampler: SamplerConfig = SamplerConfig()
    fidelity: FidelityConfig = FidelityConfig()
    references: Annotated[tuple[Reference, ...], Field(strict=False)] = Field(
        default=("none", "paper", "constant"), description="reference schedules, run first"
    )
    reference_schedules: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="own schedules in place of the references' usual ones"
    )
    space: Space
    base: RunBase

    @model_validator(mode="after")
    def _makes_sense(self) -> SearchConfig:
        found = complaints(self)
        if found:
            raise Invalid(found)
        return self

    def reference(self, name: str) -> dict[str, Any]:
        """Return the overrides of a reference: `none`, `paper` or `constant`."""
        schedule = check_schedule(self.reference_schedules.get(name, REFERENCES[name]))
        return {f"schedule.{key}": value for key, value in schedule.as_dict().items()}

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
        return fingerprint(self, exclude={"name": True, "trials": True, "base": IMMATERIAL})


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
