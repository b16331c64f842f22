"""One run: its parts together."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, Field, model_validator

from raystt.config.base import Directory, Name
from raystt.config.changes import changed
from raystt.config.corpus import CorpusConfig
from raystt.config.parts import (
    EvaluationConfig,
    ModelConfig,
    Resources,
    ResourcesConfig,
    TrainingConfig,
)
from raystt.config.validation import nearest
from raystt.config.yaml_source import dump
from raystt.interleaving.rules import Interleaving
from raystt.schedule import AnySchedule, Apart, Staircase
from raystt.strict import Complaint, Invalid, Part

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
    interleaving: Interleaving = Interleaving()
    schedule: AnySchedule = Field(
        default=Staircase(), description="text ratio by progress; a shape in `raystt.schedule`"
    )
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    resources: Resources = ResourcesConfig()
    storage: Directory = Field(
        default="runs", description="directory that runs are written to, or s3://…"
    )

    @model_validator(mode="after")
    def _adapters_are_whole(self) -> RunBase:
        if self.model.lora is not None and self.training.zero_stage == 3:
            reason = "ZeRO 3 cuts up the embeddings that model.lora trains rows of"
            fix = "set 2: adapters leave the optimiser little to share out"
            at = ("training", "zero_stage")
            raise Invalid([Complaint(at, reason, fix)], reads=[at, ("model",)])
        return self

    @model_validator(mode="after")
    def _both_sides_are_interleaved(self) -> RunBase:
        side = self.interleaving.side
        if isinstance(self.schedule, Apart) and side != "both":
            reason = f"{side!r} alone, and schedule.shape is apart: the other schedule is not used"
            at = ("interleaving", "side")
            fix = "set both, or another shape"
            raise Invalid([Complaint(at, reason, fix)], reads=[at, ("schedule",)])
        return self

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
            reason = "the corpus has several languages"
        elif self.language not in known:
            reason = f"the corpus has no language {self.language!r}"
            fix = nearest(self.language, known)
        else:
            return self
        raise Invalid([Complaint(("language",), reason, fix)], reads=[("corpus", "languages")])


def fingerprint(model: BaseModel, exclude: Any) -> str:
    """Hash the canonical JSON of a model without the keys in `exclude` (16 hex digits)."""
    data = model.model_dump(mode="json", by_alias=True, exclude=exclude)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def changed_keys(before: BaseModel, after: BaseModel) -> str:
    """Name the keys in which two configs differ, and their values."""
    dumped = (model.model_dump(mode="json", by_alias=True) for model in (before, after))
    return ", ".join(str(change) for change in changed(*dumped))


def to_yaml(model: BaseModel) -> str:
    """Write a config with all its defaults, so that loading it gives the same config."""
    return dump(model.model_dump(mode="json", by_alias=True))
