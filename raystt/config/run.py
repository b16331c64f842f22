"""One run: its parts together, read from a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from raystt import schedule as schedules
from raystt.config.base import Name, Part
from raystt.config.corpus import CorpusConfig
from raystt.config.parts import (
    EvaluationConfig,
    InterleavingConfig,
    ModelConfig,
    ResourcesConfig,
    TrainingConfig,
)
from raystt.config.validation import Complaint, Invalid, build, nearest
from raystt.config.yaml_source import ConfigError, Source, dump, read

IMMATERIAL: dict[str, Any] = {
    "storage": True,
    "resources": True,
    "training": {"log_every", "checkpoint_every"},
}
"""Keys of a run that decide no score, so that a resumed run or search may change them."""


class RunBase(Part):
    """A run without its name, seed and language: what the trials of a search share."""

    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    interleaving: InterleavingConfig = InterleavingConfig()
    schedule: dict[str, Any] = Field(
        default_factory=lambda: {"shape": "staircase"},
        validate_default=True,
        description="text ratio by progress; the fields of a shape in `raystt.schedule`",
    )
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    resources: ResourcesConfig = ResourcesConfig()
    storage: str = Field(
        default="runs", min_length=1, description="directory that runs are written to"
    )

    @field_validator("schedule")
    @classmethod
    def _complete(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Check a schedule and write out its defaults."""
        return check_schedule(value).as_dict()

    @model_validator(mode="after")
    def _adapters_are_whole(self) -> RunBase:
        if self.model.lora is not None and self.training.zero_stage == 3:
            reason = "ZeRO 3 cuts up the embeddings that model.lora trains rows of"
            fix = "set 2: adapters leave the optimiser little to share out"
            raise Invalid([Complaint(("training", "zero_stage"), reason, fix)])
        return self

    def text_schedule(self) -> schedules.Schedule:
        """Return `schedule` as the pure function it describes."""
        return schedules.from_dict(self.schedule)

    def fingerprint(self) -> str:
        """Hash what decides the result, 16 hex digits: not name, storage, resources, logging."""
        return fingerprint(self, exclude={"name": True, **IMMATERIAL})


class RunHead(Part):
    """What tells one run from another over the same base."""

    name: Name = Field(description="directory of the run under `storage`")
    seed: int = Field(default=1, ge=0, description="seed of data order, interleaving and dropout")
    language: str = Field(
        default="", description="source language; needed if the corpus has several"
    )


class RunConfig(RunBase, RunHead):
    """One training run of one language, and how it is scored."""

    @model_validator(mode="before")
    @classmethod
    def _only_language(cls, data: Any) -> Any:
        """Fill in the language where the corpus leaves no choice."""
        if isinstance(data, dict) and "language" not in data:
            corpus = data.get("corpus")
            languages = getattr(corpus, "languages", None)
            if isinstance(corpus, dict):
                languages = corpus.get("languages")
            if isinstance(languages, dict) and len(languages) == 1:
                return {**data, "language": next(iter(languages))}
        return data

    @model_validator(mode="after")
    def _language_is_in_corpus(self) -> RunConfig:
        known = list(self.corpus.languages)
        if not self.language:
            fix = f"add `language:` with one of {', '.join(known)}"
            raise Invalid([Complaint(("language",), "the corpus has several languages", fix)])
        if self.language not in known:
            reason = f"the corpus has no language {self.language!r}"
            raise Invalid([Complaint(("language",), reason, nearest(self.language, known))])
        return self


def check_schedule(value: dict[str, Any]) -> schedules.Schedule:
    """Build a schedule; raise `Invalid` naming each key at fault."""
    complaints: list[Complaint] = []
    rest = dict(value)
    while True:
        try:
            schedule = schedules.from_dict(rest)
        except schedules.ScheduleError as error:
            at = (error.key,)
            if any(c.location == at for c in complaints):
                break
            complaints.append(Complaint(at, error.reason, error.fix))
            # the schedule stops at the first problem: look for the next without that key
            if error.key == "shape" or error.key not in rest:
                break
            del rest[error.key]
        else:
            if not complaints:
                return schedule
            break
    raise Invalid(complaints)


def fingerprint(model: BaseModel, exclude: Any) -> str:
    """Hash the canonical JSON of a model without the keys in `exclude` (16 hex digits)."""
    data = model.model_dump(mode="json", by_alias=True, exclude=exclude)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def changed_keys(before: BaseModel, after: BaseModel) -> list[str]:
    """Name the keys in which two configs differ, dotted."""

    def flat(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        items: dict[str, Any] = {}
        for key, item in value.items():
            items.update(flat(item, f"{prefix}.{key}" if prefix else str(key)))
        return items

    old, new = (flat(m.model_dump(mode="json", by_alias=True), "") for m in (before, after))
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def to_yaml(model: BaseModel) -> str:
    """Write a config with all its defaults, so that loading it gives the same config."""
    return dump(model.model_dump(mode="json", by_alias=True))


def load_run(path: Path | str) -> RunConfig:
    """Read the config of a run.

    Raises:
        ConfigError: with every problem of the file as `FILE:LINE: key.path: reason; fix`.
    """
    source = read(path)
    refuse_search(source)
    return build(RunConfig, source)


def refuse_search(source: Source) -> None:
    """Say so when the file of a search is given where a run is wanted."""
    for key in ("space", "base"):
        if key in source.data:
            fix = "use `raystt search`, or write the config of a run"
            raise ConfigError([source.problem((key,), "this is the config of a search", fix)])
