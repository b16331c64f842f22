"""The parts of a run's config, with what each key means and its default."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from raystt.config.validation import Complaint, Invalid


class Part(BaseModel):
    """A frozen mapping that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _name(value: str) -> str:
    if not value or value.strip(".") == "" or not all(c.isalnum() or c in "-_." for c in value):
        reason = f"{value!r} cannot name a directory"
        raise Invalid([Complaint((), reason, "use letters, digits, '-', '_' and '.'")])
    return value


Name = Annotated[str, AfterValidator(_name)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class LanguageSizes(Part):
    """Sentence pairs of one source language, by split."""

    train: Count = Field(description="pairs with audio to train on")
    dev: Count = Field(default=64, description="pairs that trials are scored on")
    test: Count = Field(default=100, description="pairs that the report scores the final few on")


class UnitsConfig(Part):
    """Speech units: k-means clusters of frame features."""

    source: int = Field(default=100, ge=2, description="clusters of the source side's codebook")
    target: int = Field(default=200, ge=2, description="clusters of the target side's codebook")
    deduplicate: bool = Field(default=True, description="merge runs of the same unit into one")


class BaseLmConfig(Part):
    """The text LM trained on the task's text, in place of a pretrained one."""

    layers: Count = Field(default=3, description="decoder layers")
    hidden: Count = Field(default=160, description="width of the hidden states")
    heads: Count = Field(default=4, description="attention heads; a divisor of `hidden`")
    steps: Count = Field(default=160, description="optimiser steps")
    batch: Count = Field(default=32, description="sentence pairs a step")
    learning_rate: Positive = Field(default=3e-3, description="peak learning rate")

    @model_validator(mode="after")
    def _heads_divide(self) -> BaseLmConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            reason = f"{self.heads} heads do not split {self.hidden} into parts of an even width"
            raise Invalid([Complaint(("heads",), reason, "choose hidden = heads x an even number")])
        return self


class CorpusConfig(Part):
    """What to prepare, or where it was prepared."""

    reader: Literal["embedded"] = Field(
        default="embedded", description="where the sentences come from"
    )
    path: str = Field(default="data/embedded", min_length=1, description="directory of the corpus")
    languages: dict[str, LanguageSizes] = Field(min_length=1, description="source languages")
    target: str = Field(default="en", min_length=2, description="target language")
    text_pairs: Count = Field(
        default=2000, description="text-only pairs a language, for the base LM"
    )
    seed: int = Field(default=1, ge=0, description="seed of sentences, units, vocoder and base LM")
    units: UnitsConfig = UnitsConfig()
    vocoder: Literal["conv"] = Field(default="conv", description="units to waveform")
    base: BaseLmConfig = BaseLmConfig()
    shard_rows: Count = Field(default=20000, description="most rows of a Parquet shard")


class ModelConfig(Part):
    """Where training starts."""

    base: str = Field(
        default="corpus",
        min_length=1,
        description="`corpus` = its text LM; else a directory or hub name",
    )


class InterleavingConfig(Part):
    """Which words become text; the fields of `raystt.thresholds.Interleaving`."""

    rule: Literal["independent", "poisson"] = Field(
        default="poisson", description="how words are drawn"
    )
    span_mean: float = Field(
        default=3.0, ge=0, description="mean of the spans' Poisson length, words"
    )
    side: Literal["both", "source", "target"] = Field(
        default="both", description="sides interleaved"
    )
    format: Literal["direct", "chain_of_thought"] = Field(
        default="direct", description="sequence format"
    )


class TrainingConfig(Part):
    """One run of training; its horizon is `steps` optimiser steps."""

    steps: Count = Field(default=350, description="optimiser steps, the horizon of the schedule")
    batch_utterances: Count = Field(default=16, description="utterances a step, over all workers")
    micro_batch_tokens: Count = Field(
        default=4096, description="most tokens of a packed micro-batch"
    )
    learning_rate: Positive = Field(default=2e-3, description="peak learning rate")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="fraction of the steps warming up")
    lr_schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        default="linear", description="learning rate after the warm-up"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled weight decay")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout of the decoder's layers")
    gradient_clipping: float = Field(
        default=1.0, ge=0, description="largest gradient norm; 0 = off"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto = bf16 where the device has it"
    )
    zero_stage: int = Field(default=0, ge=0, le=3, description="DeepSpeed ZeRO stage")
    log_every: Count = Field(default=10, description="steps between two lines of the log")
    checkpoint_every: Count | None = Field(
        default=None, description="`raystt train`: steps between two states to continue from"
    )


class EvaluationConfig(Part):
    """How a model is scored."""

    split: Literal["dev", "test"] = Field(
        default="dev", description="split that trials are compared on"
    )
    report_split: Literal["dev", "test"] = Field(
        default="test", description="split of the final scores"
    )
    sentences: Count | None = Field(default=None, description="sentences of the split; null = all")
    asr: Literal["pocketsphinx"] = Field(default="pocketsphinx", description="recogniser")
    normaliser: Literal["plain"] = Field(default="plain", description="text normaliser before BLEU")
    resamples: Count = Field(default=1000, description="bootstrap resamples of the interval")
    batch: Count = Field(default=64, description="utterances generated together")
    max_new_tokens: Count = Field(default=160, description="longest generation, tokens")


class ResourcesConfig(Part):
    """What runs where. CPUs are Ray's logical ones and may be fractions."""

    address: str | None = Field(
        default=None, description="Ray address; null = start Ray on this machine"
    )
    cpus: Count | None = Field(default=None, description="logical CPUs of a local Ray; null = all")
    trainers: Count = Field(default=2, description="trials trained at a time")
    workers_per_trainer: Count = Field(default=1, description="processes that train one trial")
    cpus_per_worker: Positive = Field(default=0.5, description="CPUs of such a process")
    gpus_per_worker: float = Field(default=0.0, ge=0, description="GPUs of such a process")
    evaluators: Count = Field(default=1, description="evaluation processes")
    cpus_per_evaluator: Positive = Field(default=0.25, description="CPUs of an evaluation process")
    gpus_per_evaluator: float = Field(
        default=0.0, ge=0, description="GPUs of an evaluation process"
    )
    data_cpus: float = Field(default=0.5, ge=0, description="CPUs kept free for reading the shards")
    threads_per_worker: Count = Field(default=1, description="CPU threads of each process")

    @property
    def reserved_cpus(self) -> float:
        """CPUs that the two pools hold all the time."""
        training = self.trainers * self.workers_per_trainer * self.cpus_per_worker
        return training + self.evaluators * self.cpus_per_evaluator

    def local_cpus(self) -> int:
        """Return how many logical CPUs a Ray started on this machine gets."""
        if self.cpus is not None:
            return self.cpus
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
