"""Fine-tune the unit encoder with CTC on the corpus' transcripts (paper, section 3), on Ray Train.

The paper's units came from an encoder fine-tuned so; without it, ASR-BLEU was 9.6 instead of 28.8.
The loop is that of transformers' `Trainer`, the batches are ours (`raystt.preparation.ctc`).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from raystt.cluster.train_group import train_in_group
from raystt.config import FinetuneConfig, QualityConfig, ResourcesConfig
from raystt.errors import PrepareError
from raystt.files import replacing
from raystt.preparation import ctc

REPORT = "finetune.json"
"""File of the result that says what the fine-tuning did."""

HELD_OUT = 64
"""Utterances, at most, that are not trained on but transcribed before and after."""

DOUBTFUL = 0.5
"""Character error rate above which words are hardly aligned."""

OnStep = Callable[[int, int, float], None]

_WHOLE = "whole"  # file of a state that was written to its end: a kill can leave a part of one
_READERS = 16  # threads: looking at the heads of files is waiting


@dataclass(frozen=True)
class FinetuneJob:
    """What is fine-tuned on what; all but the last two decides the result, `out` aside.

    Attributes:
        encoder: Directory or hub name.
        config: Steps, batch size and learning rate.
        utterances: (audio path, transcript), of all languages and both sides.
        quality: Limits of the length of a recording.
        seed: Seed of the new head, of the order and of dropout.
        out: Directory to write.
        on_step: Told (step, steps, loss in nats a character) by the first worker, in its process.
        state_steps: Steps from one state to the next.
    """

    encoder: str
    config: FinetuneConfig
    utterances: tuple[tuple[str, str], ...]
    quality: QualityConfig
    seed: int
    out: Path
    on_step: OnStep | None = None
    state_steps: int = 250

    def states(self) -> Path:
        """Return the directory of this very job's states: another job's are not continued."""
        config, quality = self.config.model_dump(), self.quality.model_dump()
        text = json.dumps([self.encoder, config, self.utterances, quality, self.seed])
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.out.with_name(f"{self.out.name}.state") / digest


def fit_encoder(job: FinetuneJob, resources: ResourcesConfig) -> None:
    """Fine-tune an encoder and write model and processor as a transformers directory.

    Nothing is done if it exists. A group of `resources.encoders` workers trains; the batches are
    the same for any number of them. A killed run continues from its last state, beside `out`, and
    comes to the same weights as one that was not killed. `out/finetune.json` holds `steps`,
    `seconds` of the process that came to the end, `cer_before` and `cer_after` (character error
    rate of greedy decoding on `held_out` utterances that were not trained on; their sentences may
    occur in other recordings), `utterances` trained on, and those `skipped`: without a letter,
    longer than CTC can spell in their time, no recording, or shorter or longer than `quality` says.

    Raises:
        BadInput: The encoder cannot be loaded, or fewer than two utterances are left.
    """
    if not job.out.exists():
        train_in_group(train, job, resources)


def outcome(encoder: Path) -> str:
    """Say how well a fine-tuned encoder spells, with a warning if it hardly does."""
    report = json.loads((encoder / REPORT).read_text(encoding="utf-8"))
    text = (
        f"encoder: character error rate {report['cer_after']:.2f} on {report['held_out']} held-out "
        f"utterances, {report['cer_before']:.2f} before fine-tuning"
    )
    if report["cer_after"] <= DOUBTFUL:
        return text
    return (
        f"warning: {text}; above {DOUBTFUL} its alignment and units are worth little: look at the "
        f"transcripts or raise corpus.finetune.steps, and prepare {encoder.parent} anew"
    )


def train(job: FinetuneJob, device: torch.device) -> None:
    """Do the work of one worker, or of the only process where there is no group."""
    began = time.monotonic()
    torch.manual_seed(job.seed)
    model, processor = ctc.load(job.encoder, (text for _, text in job.utterances))
    usable = _usable(job, model, processor)
    order = np.random.default_rng([job.seed, 1 << 32]).permutation(len(usable)).tolist()
    size = min(HELD_OUT, max(1, len(usable) // 10))
    held, trained = ([usable[i] for i in sorted(part)] for part in (order[:size], order[size:]))
    trainer = CtcTrainer(job, model, processor, trained, device)
    first = trainer.is_world_process_zero()
    before = ctc.error_rate(model, processor, held) if first else math.nan
    # The first worker decides where to go on: on a network file system others may see less.
    trainer.train(resume_from_checkpoint=broadcast_object_list([_last_state(job)])[0])
    if first:
        report = {
            "steps": job.config.steps,
            "seconds": round(time.monotonic() - began, 1),
            "cer_before": round(before, 4),
            "cer_after": round(ctc.error_rate(model, processor, held), 4),
            "utterances": len(trained),
            "held_out": len(held),
            "skipped": len(job.utterances) - len(usable),
        }
        with replacing(job.out) as temporary:
            model.save_pretrained(temporary)
            processor.save_pretrained(temporary)
            (temporary / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(job.states().parent, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


class CtcTrainer(Trainer):
    """transformers' `Trainer` over `ctc.Parts`."""

    def __init__(
        self, job: FinetuneJob, model: Any, processor: Any, recordings: list[ctc.Recording],
        device: torch.device,
    ) -> None:  # fmt: skip
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        arguments = TrainingArguments(
            str(job.states()), max_steps=job.config.steps, seed=job.seed,
            learning_rate=job.config.learning_rate, adam_beta2=0.98,  # the paper's Adam
            warmup_steps=round(job.config.warmup * job.config.steps),
            per_device_train_batch_size=1, bf16=half, use_cpu=device.type == "cpu",
            save_steps=job.state_steps, save_total_limit=2,
            logging_steps=1, logging_nan_inf_filter=False, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        parts = ctc.Parts(
            recordings, processor, batch_seconds=job.config.batch_seconds, steps=job.config.steps,
            seed=job.seed, rank=arguments.process_index, world_size=arguments.world_size,
        )  # fmt: skip
        arguments.gradient_accumulation_steps = parts.pieces
        super().__init__(model, arguments, train_dataset=parts, callbacks=[_Callback(job.on_step)])
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # the loss is a mean, which the trainer divides

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Decode in a process ahead of the model; the parts are this worker's already."""
        return DataLoader(self.train_dataset, collate_fn=itemgetter(0), num_workers=1)

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        """Return the loss of a part, weighted; see `ctc.Parts`."""
        share = inputs.pop("share")
        return model(**inputs).loss * share


class _Callback(TrainerCallback):
    """Tells of steps, and marks the states that are whole."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self._on_step and state.is_world_process_zero and "loss" in logs:
            self._on_step(state.global_step, state.max_steps, logs["loss"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        args.distributed_state.wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()


def _last_state(job: FinetuneJob) -> str | None:
    found = [file.parent for file in job.states().glob(f"checkpoint-*/{_WHOLE}")]
    return str(max(found, key=lambda p: int(p.name.split("-")[1]))) if found else None


def _usable(job: FinetuneJob, model: Any, processor: Any) -> list[ctc.Recording]:
    """Return what can be trained on, in the order of the utterances."""
    with ThreadPoolExecutor(_READERS) as pool:
        lengths = list(pool.map(_seconds, [path for path, _ in job.utterances]))
    found = [
        ctc.Recording(path, text, seconds)
        for (path, text), seconds in zip(job.utterances, lengths, strict=True)
        if job.quality.min_seconds <= seconds <= job.quality.max_seconds
        and ctc.fits(model, processor, text, seconds)
    ]
    if len(found) < 2:
        raise PrepareError(
            f"corpus.finetune: {len(found)} of {len(job.utterances)} transcribed utterances can "
            "be used, CTC needs two or more; remove corpus.finetune, or check the transcripts"
        )
    return found


def _seconds(path: str) -> float:
    """Return the length of a recording by its head, nan of what is none."""
    try:
        info = soundfile.info(path)
    except (OSError, RuntimeError):
        return math.nan  # the pipeline will say what is wrong with it
    return float(info.frames / info.samplerate)
