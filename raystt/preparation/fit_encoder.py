"""Fine-tune the unit encoder with CTC on the corpus' transcripts (paper, section 3), on Ray Train.

The paper's units came from an encoder fine-tuned so; without it, ASR-BLEU was 9.6 instead of 28.8.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raystt.cluster.train_group import train_in_group
from raystt.config import FinetuneConfig, QualityConfig, ResourcesConfig, UnitsConfig
from raystt.errors import PrepareError
from raystt.files import replacing

REPORT = "finetune.json"
"""File of the result that says what the fine-tuning did."""

HELD_OUT = 64
"""Utterances, at most, that are not trained on but transcribed before and after."""

_STATE_STEPS = 250
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class FinetuneJob:
    """What a worker needs; all but `threads` and `on_step` decides the result."""

    encoder: str
    config: FinetuneConfig
    utterances: tuple[tuple[str, str], ...]
    out: str
    seed: int
    threads: int
    on_step: OnStep | None
    state_steps: int = _STATE_STEPS
    quality: QualityConfig = QualityConfig()

    def fingerprint(self) -> str:
        """Hash what decides the result, so that a state of another job is not continued."""
        text = json.dumps(
            [
                self.encoder,
                self.config.model_dump(),
                self.quality.model_dump(),
                self.utterances,
                self.seed,
            ],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()


def fit_encoder(
    units: UnitsConfig,
    finetune: FinetuneConfig,
    utterances: Sequence[tuple[str, str]],
    out: Path,
    resources: ResourcesConfig,
    *,
    seed: int,
    threads: int,
    quality: QualityConfig,
    on_step: OnStep | None = None,
) -> None:
    """Fine-tune `units.encoder` and write model and processor as a transformers directory.

    A group of `resources.workers_per_trainer` workers trains; the batches are the same for any
    number of them. A killed run continues from its last state, every 250 steps, in the directory
    `<out>.state` beside `out`, and comes to the same weights as one that was not killed.
    `out/finetune.json` holds `steps`, `seconds` of training (of all processes that took part, from
    the last state on), `cer_before` and `cer_after` (character error rate of greedy decoding on
    `held_out` utterances that were not trained on; their sentences may occur in other recordings),
    `utterances` trained on, and those `skipped`: without a letter, longer than CTC can spell in
    their time, no recording, or shorter or longer than `quality` says.

    Args:
        units: Names the encoder.
        finetune: Steps, batch size and learning rate.
        utterances: (audio path, transcript), of all languages and both sides.
        out: Directory to write; nothing is done if it exists.
        resources: Of the workers. A Ray must be running.
        seed: Seed of the new head, of the order and of dropout.
        threads: CPU threads of each worker.
        quality: Limits of the length of a recording.
        on_step: Told (step, steps, loss in nats a character) by the first worker, in its process.

    Raises:
        BadInput: The encoder cannot be loaded, or fewer than two utterances are left.
    """
    if out.exists():
        return
    pairs = tuple((str(path), text) for path, text in utterances)
    job = FinetuneJob(
        units.encoder, finetune, pairs, str(out), seed, threads, on_step, quality=quality
    )
    train_in_group(_work, job, resources)


def _work(job: FinetuneJob) -> None:
    """Train in one worker of a group."""
    import torch
    from ray.train.torch import get_device

    torch.set_num_threads(job.threads)
    train(job, get_device())


def train(job: FinetuneJob, device: Any) -> None:
    """Do the work of one worker, or of the only process where there is no group.

    Args:
        job: The work.
        device: torch device of this worker.
    """
    import torch
    import torch.distributed as dist

    from raystt.preparation.ctc import CtcTrainer, load_model, new_processor
    from raystt.preparation.ctc_batches import held_out, loaded_ahead, share, step_batches
    from raystt.speech import SAMPLE_RATE

    out, state_path = Path(job.out), Path(f"{job.out}.state") / "state.pt"
    began = time.monotonic()
    torch.manual_seed(job.seed)
    processor = new_processor(job.encoder, (text for _, text in job.utterances))
    trainer = CtcTrainer(
        load_model(job.encoder, processor), processor, job.config, seed=job.seed, device=device
    )
    seconds = _lengths([path for path, _ in job.utterances], trainer.rank, trainer.world_size)
    low, high = job.quality.min_seconds, job.quality.max_seconds
    usable = [
        index
        for index, (_, text) in enumerate(job.utterances)
        if low <= seconds[index] <= high and trainer.fits(text, seconds[index])
    ]
    if len(usable) < 2:
        raise PrepareError(
            f"corpus.finetune: {len(usable)} of {len(job.utterances)} transcribed utterances can "
            "be used, CTC needs two or more; remove corpus.finetune, or check the transcripts"
        )
    held, trained = (
        [usable[i] for i in part] for part in held_out(len(usable), HELD_OUT, job.seed)
    )
    saved = _load(state_path, job, device)
    if saved is not None:
        trainer.load(saved["trainer"])
        before, spent = saved["cer_before"], saved["seconds"]
    else:
        before, spent = _error_rate(trainer, job, held), 0.0

    def load(batch: np.ndarray) -> tuple[list[np.ndarray], list[str], float, int]:
        part, weight = share(batch, trainer.rank, trainer.world_size)
        chosen = [job.utterances[trained[index]] for index in part]
        longest = max(round(seconds[trained[index]] * SAMPLE_RATE) for index in batch)
        read = [(_readable(path), text) for path, text in chosen]
        heard = [(waveform, text) for waveform, text in read if waveform is not None]
        return [w for w, _ in heard], [text for _, text in heard], weight, longest

    steps = job.config.steps
    batches = step_batches(
        seconds[trained], job.config.batch_seconds, job.seed, trainer.steps_done, steps
    )
    for inputs in loaded_ahead(batches, load):
        loss = trainer.step(*inputs)
        if trainer.rank:
            continue
        if job.on_step is not None:
            job.on_step(trainer.steps_done, steps, loss)
        if trainer.steps_done % job.state_steps == 0 and trainer.steps_done < steps:
            _save(
                state_path,
                {
                    "job": job.fingerprint(),
                    "trainer": trainer.state(),
                    "cer_before": before,
                    "seconds": spent + time.monotonic() - began,
                },
            )
    after = _error_rate(trainer, job, held)
    if trainer.rank == 0:
        report = {
            "steps": steps,
            "seconds": round(spent + time.monotonic() - began, 1),
            "cer_before": round(before, 4),
            "cer_after": round(after, 4),
            "utterances": len(trained),
            "held_out": len(held),
            "skipped": len(job.utterances) - len(usable),
        }
        with replacing(out) as temporary:
            trainer.model.save_pretrained(temporary)
            processor.save_pretrained(temporary)
            (temporary / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(state_path.parent, ignore_errors=True)
    if dist.is_initialized():
        dist.barrier()


def _lengths(paths: Sequence[str], rank: int, world_size: int) -> np.ndarray:
    """Return the seconds of recordings, float64 [paths], nan of what is none.

    Each worker reads the heads of a part of them.
    """
    import soundfile
    import torch.distributed as dist

    found = {}
    for place in range(rank, len(paths), world_size):
        try:
            info = soundfile.info(paths[place])
        except (OSError, RuntimeError):
            found[place] = math.nan  # the pipeline will say what is wrong with it
            continue
        found[place] = info.frames / info.samplerate
    shares: list[Any] = [found]
    if world_size > 1:
        shares = [None] * world_size
        dist.all_gather_object(shares, found)
    seconds = np.zeros(len(paths))
    for part in shares:
        for place, length in part.items():
            seconds[place] = length
    return seconds


def _error_rate(trainer: Any, job: FinetuneJob, held: Sequence[int]) -> float:
    """Return the character error rate over the held-out utterances, over all workers."""
    import torch
    import torch.distributed as dist

    counts = np.zeros(2, np.int64)
    for index in held[trainer.rank :: trainer.world_size]:
        path, text = job.utterances[index]
        waveform = _readable(path)
        if waveform is not None:
            counts += trainer.errors(waveform, text)
    total = torch.from_numpy(counts).to(trainer.device)
    if trainer.world_size > 1:
        dist.all_reduce(total)
    return float(total[0] / total[1].clamp(min=1))


def _readable(path: str) -> np.ndarray | None:
    """Decode a recording; None if it is damaged behind a sound head."""
    from raystt.speech.audio import AudioError, read_audio

    try:
        return read_audio(path)
    except AudioError:
        return None


def _save(path: Path, state: dict[str, Any]) -> None:
    import torch

    with replacing(path) as temporary:
        torch.save(state, temporary)


def _load(path: Path, job: FinetuneJob, device: Any) -> dict[str, Any] | None:
    """Return the state to continue from, if this very job has one."""
    import torch

    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state if state["job"] == job.fingerprint() else None
