"""One DeepSpeed engine: optimiser step, learning-rate schedule, checkpoint and export.

Works on "cpu" with gloo and on "cuda" with NCCL, with or without Ray: where nobody has made a
process group, a group of one is made that listens on nothing. The caller says which device: on a
machine with GPUs, those that Ray lent to somebody else may be visible too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from transformers import get_scheduler
from transformers.modeling_layers import GradientCheckpointingLayer

from raystt.config import TrainingConfig
from raystt.training.adapters import has_adapters, merged
from raystt.training.batches import MicroBatch, StepBatch
from raystt.training.device import can_compile
from raystt.training.flops import Operations, peak
from raystt.training.jobs import CheckpointError
from raystt.training.loss import ends_in, exposed, summed_loss

# DeepSpeed's logger writes to stdout at its own level; set before its first import.
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")

_TAG = "engine"
_GROUP = "group.json"


def join_process_group(device: str) -> tuple[int, int]:
    """Make sure there is a process group for "cpu" or "cuda" and return (rank, world size)."""
    if not dist.is_initialized():
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists; launchers set it
    os.environ["DS_ACCELERATOR"] = device  # read when it is imported; it would take a GPU it sees
    # Its autotuner, which nobody uses, would import MLflow where that is installed: a quarter of
    # the CPU time that a trainer takes to start.
    mlflow: Any = sys.modules.setdefault("mlflow", None)  # type: ignore[arg-type]
    try:
        import deepspeed
        import deepspeed.ops
    finally:
        if mlflow is None:
            del sys.modules["mlflow"]

    # DeepSpeed would find out which of its operators compile here, and build its shared-memory
    # all-reduce (a minute, and a compiler); torch's own operators do all that is used.
    vars(deepspeed.ops).setdefault("__compatible_ops__", {})
    if not deepspeed.comm.is_initialized():
        # It prints what it found out about MPI and the backend.
        with contextlib.redirect_stdout(None):
            deepspeed.init_distributed(
                dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False
            )
    return dist.get_rank(), dist.get_world_size()


def resolve_precision(precision: str, device: str) -> str:
    """Return "bf16" or "fp32"; "auto" takes bf16 on a GPU that multiplies in it.

    On a CPU bf16 is slower, that of small models on those with instructions for it too
    (`benchmarks/training_step.py`): each length of a micro-batch has kernels made for it. And CPUs
    of two kinds would train two different models.
    """
    if precision != "auto":
        return precision
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp32"


def compile_layers(model: torch.nn.Module) -> None:
    """Have each layer of a decoder compiled when it is first used.

    Norms, rotations and activations then cost a pass over memory instead of five. One code serves
    all layers and lengths, and the models that follow in the process.
    """
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer) and can_compile():
            module.compile(dynamic=True)


class Engine:
    """A model in training.

    Attributes:
        rank, world_size: Of the group.
        precision: "bf16" or "fp32".
        operations: Those of this rank's steps so far; see `training.flops`.

    Args:
        model: The causal LM, fp32, with packed attention; with or without adapters.
        config: Optimiser, precision and ZeRO stage.
        horizon: Optimiser steps of the whole training run (the learning rate's horizon).
        device: "cpu", or "cuda": the current GPU.
        cooldown: First step and end of a branch, in which the learning rate falls to 0; None =
            there is none.
    """

    def __init__(
        self, model: torch.nn.Module, config: TrainingConfig, horizon: int, device: str,
        cooldown: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.rank, self.world_size = join_process_group(device)
        import deepspeed

        self.precision = resolve_precision(config.precision, device)
        model.train()  # from_pretrained gives a model without dropout, and DeepSpeed leaves it so
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            fused=True,
        )
        scheduler = get_scheduler(
            config.lr_schedule,
            optimizer,
            num_warmup_steps=round(config.warmup * horizon),
            num_training_steps=horizon,
        )
        if cooldown is not None:
            scheduler.lr_lambdas = [_cooled(rate, *cooldown) for rate in scheduler.lr_lambdas]
        # How many micro-batches a step has depends on the text ratio: added up in bf16, so would
        # the rounding. DeepSpeed adds up in fp32 from stage 1 on only, so bf16 never has less.
        # One worker has nobody to share states with: their copies would cost a fifth of a step.
        stage = config.zero_stage if self.world_size > 1 or config.zero_stage == 3 else 0
        stage = max(stage, 1) if self.precision == "bf16" else stage
        self._operations = Operations(model)  # before stage 3 takes the weights apart
        self._head: Any = None
        # Adapters rewrite the layers, and stage 3 takes the weights away between their uses. In
        # fp32 attention is a loop over sequences, which would be compiled for each number of them.
        fused = device == "cuda" and self.precision == "bf16"
        if fused and stage < 3 and not has_adapters(model):
            head = model.get_output_embeddings()  # type: ignore[operator]
            if isinstance(head, torch.nn.Linear) and ends_in(model, head):  # type: ignore[arg-type]
                self._head = head
            compile_layers(model)
        settings: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            # The number of micro-batches varies from step to step: `step()` is the border.
            "managed_gradient_accumulation": False,
            "gradient_clipping": config.gradient_clipping,
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": self.precision == "bf16"},
            "steps_per_print": 1_000_000_000,
        }
        if self.precision == "bf16":
            settings["data_types"] = {"grad_accum_dtype": "fp32"}
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=scheduler,
            config=settings,
            dist_init_required=False,
        )
        self._engine.checkpoint_engine.load = _load_safely
        if stage == 0 and self.world_size == 1:
            # Alone it would copy all gradients into one tensor and back: a tenth of a step.
            self._engine.enable_backward_allreduce = False
        # Stage 0 clips fp32 gradients by their norm, and forgets it.
        self._norm: torch.Tensor | None = None
        self._engine.clip_fp32_gradients = self._clip
        # What a state can be continued by, and the keys of the config that say so.
        self._group = {
            "resources.workers_per_trainer": self.world_size,
            "training.zero_stage": config.zero_stage,
        }
        self._device = device
        self.operations = 0.0

    def step(self, batch: StepBatch) -> float:
        """Do one optimiser step and return the loss, nats a predicted token, over all ranks."""
        total = torch.zeros(1, dtype=torch.float64, device=self._device)
        # All at once: a copy waits for the GPU to finish what it was given before.
        for micro_batch in [self._moved(part) for part in batch.micro_batches]:
            summed = self._forward(micro_batch)
            total += summed.detach()
            # DeepSpeed averages gradients over ranks; the loss is a mean over all ranks' tokens.
            mean = summed * (self.world_size / max(batch.loss_tokens, 1))
            self._engine.backward(mean)
        self._engine.step()
        self.operations += self._operations.of(batch)
        if self.world_size > 1:
            dist.all_reduce(total)
        return float(total.item()) / max(batch.loss_tokens, 1)

    def _moved(self, batch: MicroBatch) -> MicroBatch:
        """Return a micro-batch on the device; its borders only where attention reads them there."""
        moved = batch.to(self._device)
        return moved if self.precision == "bf16" else replace(moved, borders=batch.borders)

    def _forward(self, batch: MicroBatch) -> torch.Tensor:
        """Return the summed negative log-likelihood of a micro-batch's targets, fp32 scalar."""
        with contextlib.nullcontext() if self._head is None else exposed(self._head):
            output = self._engine(
                input_ids=batch.tokens[None],
                position_ids=batch.positions[None],
                use_cache=False,
                logits_to_keep=batch.predicting,
                cu_seq_lens_q=batch.borders,
                max_length_q=batch.longest,
            ).logits[0]
        if self._head is not None:
            return summed_loss(output, self._head.weight, self._head.bias, batch.targets)
        return F.cross_entropy(output.float(), batch.targets, reduction="sum")

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._engine.get_lr()[0])

    @property
    def gradient_norm(self) -> float | None:
        """The norm of the last step's gradients before they were clipped, if it was taken."""
        norm = self._engine.get_global_grad_norm()
        norm = self._norm if norm is None else norm
        return None if norm is None else float(norm)

    def _clip(self) -> None:
        from deepspeed.runtime.utils import clip_grad_norm_

        limit = self._engine.gradient_clipping()
        self._norm = clip_grad_norm_(self._engine.module.parameters(), limit)

    @property
    def peak_rate(self) -> float | None:
        """Most operations a second of this rank's GPU, in bf16; None = unknown, or none."""
        return peak(torch.cuda.get_device_name()) if self._device == "cuda" else None

    @property
    def peak_memory(self) -> int:
        """Most bytes that tensors took on this rank's GPU so far; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() if self._device == "cuda" else 0

    def save(self, directory: Path) -> None:
        """Write everything needed to continue bit for bit on the same world size.

        All ranks must call this.
        """
        # What adapters leave frozen is read from the base again.
        self._engine.save_checkpoint(
            str(directory),
            tag=_TAG,
            save_latest=False,
            exclude_frozen_parameters=has_adapters(self._engine.module),
        )
        if self.rank == 0:
            (directory / _GROUP).write_text(json.dumps(self._group))
        dist.barrier()

    def load(self, directory: Path) -> None:
        """Continue from a state written by `save`.

        Raises:
            CheckpointError: Another kind of group wrote it, or something else did.
        """
        written = json.loads((directory / _GROUP).read_text())
        for key, ours in self._group.items():
            if written[key] != ours:
                raise CheckpointError(
                    f"{directory}: written with {key}: {written[key]}, this is {ours}; set {key} "
                    f"to {written[key]}, or start the run afresh"
                )
        path, _ = self._engine.load_checkpoint(
            str(directory), tag=_TAG, load_module_strict=not has_adapters(self._engine.module)
        )
        if path is None:
            raise CheckpointError(f"{directory}: DeepSpeed found no checkpoint tagged {_TAG!r}")

    def export(self, directory: Path, tokenizer: Path | None = None) -> None:
        """Write the model as an ordinary transformers directory (safetensors). All ranks call.

        Adapters are merged into the weights.

        Args:
            directory: Made if it is not there.
            tokenizer: Directory whose files are put beside the weights, so that the result can be
                loaded as model and tokenizer by its one path.
        """
        module = self._engine.module
        weights = None
        if self._engine.zero_optimization_stage() == 3:
            weights = self._engine._zero3_consolidated_16bit_state_dict()
        if self.rank == 0:
            directory.mkdir(parents=True, exist_ok=True)
            plain = merged(module) if has_adapters(module) else module
            plain.save_pretrained(directory, state_dict=weights)
            for file in sorted(tokenizer.iterdir()) if tokenizer is not None else ():
                shutil.copyfile(file, directory / file.name)
        dist.barrier()

    def close(self) -> None:
        """Release the engine's buffers and hooks, so that the process can build another."""
        self._engine.destroy()


def _cooled(rate: Callable[[int], float], start: int, stop: int) -> Callable[[int], float]:
    """Return a learning rate's factor by step that falls to 0 between two steps."""
    return lambda s: rate(s) if s <= start else rate(start) * max(0.0, (stop - s) / (stop - start))


def _load_safely(path: str, map_location: Any = None) -> Any:
    """Load a file of a checkpoint, as DeepSpeed's own `load`, which would run any code in it.

    Raises:
        CheckpointError: It holds more than tensors, plain values and what DeepSpeed adds.
    """
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: is no training state that raystt wrote ({str(error).splitlines()[0]}); "
            "delete the state that it is in, to train it again"
        ) from None
