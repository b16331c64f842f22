"""The parts of a run's config, with what each key means and its default."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from raystt.config.base import Count, Positive
from raystt.config.corpus import Pretrained
from raystt.strict import Complaint, Invalid, Part


class LoraConfig(Part):
    """Low-rank adapters of `peft` in place of full fine-tuning."""

    rank: Count = Field(default=16, description="rank of the adapters")
    alpha: Positive = Field(default=32.0, description="their scale is alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before them")


class ModelConfig(Part):
    """Where training starts."""

    base: Pretrained = Field(
        default="corpus",
        description="`corpus` = its text LM; else a directory or hub name",
    )
    embedding_init: Literal["mean", "mean_noise", "kmeans"] = Field(
        default="mean_noise", description="how the embeddings of the units start"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="recompute activations: less memory, a third more time"
    )
    lora: LoraConfig | None = Field(
        default=None, description="train adapters alone; null = full fine-tuning, as the paper"
    )


class TrainingConfig(Part):
    """One run of training; its horizon is `steps` optimiser steps."""

    steps: int = Field(
        default=350, ge=1, le=10_000_000, description="optimiser steps, the schedule's horizon"
    )
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
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout of the decoder; of a LLaMA's attention alone"
    )
    gradient_clipping: float = Field(
        default=1.0, ge=0, description="largest gradient norm; 0 = off"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto = bf16 on a GPU that has it, fp32 elsewhere"
    )
    zero_stage: int = Field(default=0, ge=0, le=3, description="DeepSpeed ZeRO stage")
    log_every: Count = Field(default=10, description="steps between two lines of the log")
    checkpoint_every: Count | None = Field(
        default=None, description="steps between checkpoints within a segment"
    )


class EvaluationConfig(Part):
    """How a model is scored."""

    split: Literal["dev", "test"] = Field(
        default="dev", description="split that trials are compared on"
    )
    report_split: Literal["dev", "test"] = Field(
        default="test", description="split of the final scores"
    )
    sentences: Count | None = Field(
        default=None, description="sentences of the split, drawn by their ids; null = all"
    )
    asr: Literal["pocketsphinx", "whisper", "fairseq-wav2vec2"] = Field(
        default="pocketsphinx", description="recogniser and its protocol of scoring"
    )
    asr_model: Pretrained | None = Field(
        default=None, description="its model; null = the one of the protocol"
    )
    utmos: str | None = Field(
        default=None, description="weights of UTMOS, to score naturalness too; null = do not"
    )
    resamples: int = Field(  # below, the ends of an interval are of one or two resamples
        default=1000, ge=100, description="bootstrap resamples of the interval"
    )
    batch: Count = Field(default=64, description="utterances generated together")
    max_new_tokens: Count = Field(default=160, description="longest generation, tokens")


def _gpus(value: float) -> float:
    if value > 1 and value != int(value):
        reason = f"{value:g} GPUs: Ray shares out one GPU, or gives whole ones"
        raise Invalid([Complaint((), reason, "give a share up to 1, or a whole number")])
    return value


Gpus = Annotated[float, Field(ge=0), AfterValidator(_gpus)]


_PLANNED = (
    "trainers", "cpus_per_worker", "gpus_per_worker", "evaluators", "cpus_per_evaluator",
    "gpus_per_evaluator", "encoders", "cpus_per_encoder", "gpus_per_encoder", "data_cpus",
    "threads_per_worker",
)  # fmt: skip


class ResourcesConfig(Part):
    """What runs where. CPUs are Ray's logical ones and may be fractions."""

    auto: bool = Field(
        default=False,
        description="find the sizes of all processes from the nodes there are, and start more "
        "trainers and evaluators on nodes that join; `resources: auto` is short for it",
    )
    address: str | None = Field(
        default=None, description="Ray address; null = start Ray on this machine"
    )
    wait_for_nodes: float = Field(
        default=0.0, ge=0, description="seconds to wait for a cluster at an address to grow"
    )
    cpus: Count | None = Field(default=None, description="logical CPUs of a local Ray; null = all")
    trainers: Count = Field(default=2, description="trials trained at a time")
    workers_per_trainer: Count = Field(default=1, description="processes that train one trial")
    cpus_per_worker: Positive = Field(default=0.5, description="CPUs of such a process")
    gpus_per_worker: Gpus = Field(default=0.0, description="GPUs of such a process")
    evaluators: Count = Field(default=1, description="evaluation processes")
    cpus_per_evaluator: Positive = Field(default=0.25, description="CPUs of an evaluation process")
    gpus_per_evaluator: Gpus = Field(default=0.0, description="GPUs of an evaluation process")
    encoders: Count = Field(
        default=1, description="processes of `prepare`: encode speech, fit encoder and vocoder"
    )
    cpus_per_encoder: Positive = Field(default=1.0, description="CPUs of such a process")
    gpus_per_encoder: Gpus = Field(default=0.0, description="GPUs of such a process")
    data_cpus: float = Field(default=0.5, ge=0, description="CPUs kept free for reading the shards")
    threads_per_worker: Count = Field(default=1, description="CPU threads of each process")
    patience: Positive = Field(
        default=600.0,
        description="seconds that lost workers, nodes or storage are waited for before a stop",
    )

    @model_validator(mode="after")
    def _found_or_given(self) -> ResourcesConfig:
        fields = type(self).model_fields
        given = [name for name in _PLANNED if getattr(self, name) != fields[name].default]
        if self.auto and given:
            fix = "remove them, or `auto`"
            reason = f"{', '.join(given)}: sizes that are to be found are given, too"
            raise Invalid([Complaint(("auto",), reason, fix)])
        return self

    def cluster(self) -> str | None:
        """Return the address of the cluster to join; None = a Ray is started on this machine."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        return None if address == "local" else address or None

    def local_cpus(self) -> int:
        """Return how many logical CPUs a Ray started on this machine gets."""
        if self.cpus is not None:
            return self.cpus
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1


def _auto(value: Any) -> Any:
    return {"auto": True} if value == "auto" else value


Resources = Annotated[
    ResourcesConfig,
    BeforeValidator(_auto, json_schema_input_type=ResourcesConfig | Literal["auto"]),
]
"""Type of a field that holds resources, which may be the word `auto`."""
