"""Fit the vocoder "conv" to the speech of a corpus, in a worker group of Ray Train or alone.

Every worker knows the order of the whole and takes its share of each batch; torch's DDP averages
the gradients. So any number of workers fits the same vocoder, up to the order of floating-point
sums.

    audio -> log-mel (normalised, kept in memory as far as it fits) -> network -> AdamW
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from raystt.cluster.train_group import train_in_group
from raystt.config import ResourcesConfig
from raystt.files import replacing
from raystt.preparation.files import WORK
from raystt.preparation.vocoder_features import Features, Utterance
from raystt.speech import SAMPLE_RATE
from raystt.vocoder.conv import ConvVocoder, Shape, VocoderError
from raystt.vocoder.network import UnitNetwork

OnStep = Callable[[int, int, float], None]

_STEPS_AN_UTTERANCE = 3  # a handful of utterances is learnt in fewer steps than the config's
_STATE_EVERY = 50  # steps; as many are lost at most when a process is killed
_WARMUP = 0.05  # of the steps


@dataclass(frozen=True)
class Settings:
    """What is fitted, and how.

    Attributes:
        clusters: units of the codebook, also those that no sentence uses; units are 0 to
            `clusters - 1`.
        frame_seconds: what a unit of duration 1 lasts.
        seed: of weights and order.
        steps: optimiser steps.
        mel: mel vocoder (see `MelVocoder.load`), or None for Griffin-Lim.
        batch: sentences a step, over all workers.
        hidden: channels.
        learning_rate: at its peak; it rises over the first 5 % and falls to 0.
    """

    clusters: int
    frame_seconds: float = 0.06
    seed: int = 0
    steps: int = 300
    mel: str | None = None
    batch: int = 16
    hidden: int = 128
    learning_rate: float = 4e-3


@dataclass(frozen=True)
class _Job:
    utterances: Sequence[Utterance]
    settings: Settings
    out: Path
    on_step: OnStep | None


def fit_vocoder(
    utterances: Sequence[Utterance],
    settings: Settings,
    out: Path,
    resources: ResourcesConfig,
    *,
    on_step: OnStep | None = None,
) -> None:
    """Fit a vocoder in `resources.encoders` workers and write it to `out`, which appears whole.

    At most three steps an utterance are made. A fit that was killed goes on from its last state,
    which is kept in the directory `WORK` beside `out` until it is done. A started Ray is needed,
    and paths that mean the same on all nodes.

    Args:
        utterances: sentences, their audio in files.
        settings: what is fitted, and how.
        out: directory; nothing is written if it is there already.
        resources: of the workers.
        on_step: see `train_vocoder`; told in the first worker's process: it is pickled.

    Raises:
        VocoderError, AudioError: see `train_vocoder`.
    """
    steps = min(settings.steps, _STEPS_AN_UTTERANCE * len(utterances))
    settings = dataclasses.replace(settings, steps=steps)
    train_in_group(_work, _Job(utterances, settings, out.resolve(), on_step), resources)


def _work(job: _Job, device: torch.device) -> None:
    """Fit as one worker of the group; the first one writes."""
    first = distributed.get_rank() == 0
    state = job.out.parent / WORK / f"{job.out.name}.state"
    fitted = train_vocoder(
        job.utterances, job.settings, device=device, state=state,
        on_step=job.on_step if first else None,
    )  # fmt: skip
    if first:
        with replacing(job.out) as folder:
            fitted.save(folder)
        state.unlink(missing_ok=True)


def train_vocoder(
    utterances: Sequence[Utterance],
    settings: Settings,
    *,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    on_step: OnStep | None = None,
) -> ConvVocoder:
    """Fit a vocoder; the same arguments give the same vocoder in every process of a group.

    Args:
        utterances: sentences; those without units are left out.
        settings: what is fitted, and how.
        device: where this process computes.
        state: file for what a killed fit continues from, kept by the first process and left behind
            at the end. A state of other settings or sentences is not used.
        on_step: told (step from 1 on, steps, loss of the whole batch) of every step.

    Raises:
        VocoderError: there is nothing to fit to, a unit is not of the codebook, the durations of a
            sentence do not fit its audio, frames are of an odd length, the mel vocoder cannot be
            had, or the loss is not finite.
        AudioError: a file cannot be read.
    """
    rank, world = 0, 1
    if distributed.is_initialized():
        rank, world = distributed.get_rank(), distributed.get_world_size()
    frame_samples = round(settings.frame_seconds * SAMPLE_RATE)
    shape = Shape(settings.clusters, 0, frame_samples, settings.hidden, longest=1)
    acoustics = shape.acoustics(settings.mel)
    features = Features(utterances, shape, acoustics)
    shape = dataclasses.replace(shape, longest=features.longest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = shape.network(acoustics).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, betas=(0.9, 0.98))
    warmup, steps = round(_WARMUP * settings.steps), settings.steps

    def rate(step: int) -> float:
        return step / warmup if step < warmup else (steps - step) / max(1, steps - warmup)

    # transformers has this schedule too, and takes seconds to import for it.
    scheduler = LambdaLR(optimizer, rate)
    parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    identity = _identity(utterances, settings)
    # The first process decides where to go on: on a network file system others may see less.
    held = [_held(state, identity) if rank == 0 else None]
    if world > 1:
        distributed.broadcast_object_list(held, device=torch.device(device))
    for name, part in parts.items():
        if held[0]:
            part.load_state_dict(held[0][name])
    done = held[0]["step"] if held[0] else 0
    model = DistributedDataParallel(network) if world > 1 else network
    batches = _batches(len(features), settings.batch, settings.seed)
    for step, chosen in enumerate(islice(batches, done, settings.steps), start=done + 1):
        own, share = _own(network, features, chosen, rank, world)
        loss = model([features.example(index) for index in own], share)
        optimizer.zero_grad()
        loss.backward()
        if world > 1:
            distributed.all_reduce(loss.detach_())
        told = loss.item() / world
        if not np.isfinite(told):
            raise VocoderError(
                f"the loss of the vocoder is {told} at step {step} of {settings.steps}; look for "
                "audio that is not speech, or change corpus.seed"
            )
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if state is not None and rank == 0 and step % _STATE_EVERY == 0:
            states = {name: part.state_dict() for name, part in parts.items()}
            with replacing(state) as temporary:
                torch.save({"identity": identity, "step": step, **states}, temporary)
        if on_step is not None:
            on_step(step, settings.steps, told)
    return ConvVocoder(shape, network, features.mean, features.scale, acoustics)


def _batches(sentences: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Yield the sentences of each step, without end: one random order of all after the other."""
    order = np.random.default_rng(seed)
    queue: list[int] = []
    while True:
        while len(queue) < batch:
            queue += order.permutation(sentences).tolist()
        yield queue[:batch]
        queue = queue[batch:]


def _own(
    network: UnitNetwork, features: Features, chosen: list[int], rank: int, world: int
) -> tuple[list[int], tuple[float, float]]:
    """Return a worker's sentences of a batch, and how much its frames and units count.

    The mean over the workers is the loss of the batch. One without sentences gets any that does
    not count: all of them have to take part.
    """
    own = chosen[rank::world]
    frames, units = _size(network, features, own)
    all_frames, all_units = _size(network, features, chosen)
    return own or chosen[:1], (world * frames / all_frames, world * units / all_units)


def _size(network: UnitNetwork, features: Features, chosen: list[int]) -> tuple[int, int]:
    """Return frames and units of some sentences."""
    sizes = [features.size(index) for index in chosen]
    return sum(network.frames(frames) for _, frames in sizes), sum(units for units, _ in sizes)


def _identity(utterances: Sequence[Utterance], settings: Settings) -> str:
    """Hash what a state belongs to."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=8)
    for units, durations, _ in utterances:
        for values in (units, durations):
            digest.update(np.asarray(values, np.int64).tobytes() + b"|")
    return digest.hexdigest()


def _held(state: Path | None, identity: str) -> dict[str, Any] | None:
    """Return the state to continue from, if there is one of this fit."""
    if state is None or not state.exists():
        return None
    held: dict[str, Any] = torch.load(state, map_location="cpu", weights_only=True)
    return held if held["identity"] == identity else None
