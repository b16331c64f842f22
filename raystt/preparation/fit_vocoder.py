"""Fitting the vocoder "conv" in a worker group of Ray Train."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raystt.cluster.train_group import train_in_group
from raystt.config import ResourcesConfig
from raystt.config.corpus import VocoderConfig
from raystt.files import replacing
from raystt.preparation.files import WORK

if TYPE_CHECKING:
    from raystt.preparation.unit_vocoder import Settings

_STEPS_AN_UTTERANCE = 3  # a handful of utterances is learnt in fewer steps than the config's
_TOLD_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class _Job:
    utterances: list[tuple[np.ndarray, np.ndarray, str]]
    settings: Settings
    out: Path
    state: Path
    on_progress: Callable[[int, int], None] | None
    threads: int


def fit_vocoder(
    config: VocoderConfig,
    utterances: Sequence[tuple[np.ndarray, np.ndarray, str]],
    out: Path,
    resources: ResourcesConfig,
    *,
    clusters: int,
    frame_seconds: float,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fit a vocoder to all `utterances` and write it to `out`, which appears as a whole.

    A fit that was killed goes on from its last state, which is kept in the directory `WORK` beside
    `out` until it is done. A started Ray is needed, and paths that mean the same on all nodes.

    Args:
        config: `steps` (at most three an utterance are made) and the mel vocoder, `model`.
        utterances: (units `[units]` from 0 on, durations `[units]` in unit frames, audio file).
        out: directory; nothing is written if it is there already.
        resources: `encoders` of them fit it, each with a share of every batch.
        clusters: units of the codebook.
        frame_seconds: what a unit of duration 1 lasts.
        seed: of weights and order.
        on_progress: told (steps done, steps) about twice a second, in the first worker's process:
            it is pickled.

    Raises:
        VocoderError: see `raystt.preparation.unit_vocoder.train_vocoder`.
        AudioError: a file cannot be read.
    """
    from raystt.preparation.unit_vocoder import Settings

    settings = Settings(
        clusters=clusters,
        frame_seconds=frame_seconds,
        seed=seed,
        steps=min(config.steps, _STEPS_AN_UTTERANCE * len(utterances)),
        mel=config.model,
    )
    out = out.resolve()
    job = _Job(
        utterances=list(utterances),
        settings=settings,
        out=out,
        state=out.parent / WORK / f"{out.name}.state",
        on_progress=on_progress,
        threads=resources.threads_per_worker,
    )
    train_in_group(_work, job, resources)


def _work(job: _Job) -> None:
    """Fit as one worker of the group; the first one writes."""
    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    from raystt.preparation.unit_vocoder import Rank, train_vocoder

    torch.set_num_threads(job.threads)
    context = get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size(), str(get_device()))
    first = rank.index == 0
    fitted = train_vocoder(
        job.utterances,
        job.settings,
        rank=rank,
        state=job.state,
        on_step=_now_and_then(job.on_progress) if first and job.on_progress else None,
    )
    if first:
        with replacing(job.out) as folder:
            fitted.save(folder)
        job.state.unlink(missing_ok=True)


def _now_and_then(told: Callable[[int, int], None]) -> Callable[[int, int, float], None]:
    before = 0.0

    def on_step(step: int, steps: int, loss: float) -> None:
        nonlocal before
        if step == steps or time.monotonic() - before > _TOLD_EVERY:
            before = time.monotonic()
            told(step, steps)

    return on_step
