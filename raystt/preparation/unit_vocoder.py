"""Fitting the vocoder "conv" to the speech of a corpus, alone or as one of several ranks.

Every rank knows the order of the whole and takes its share of each batch; gradients are summed,
each weighted by its part of the batch. So any number of ranks fits the same vocoder, up to the
order of floating-point sums, and one rank is the plain loop bit for bit.

    audio -> log-mel (normalised, kept in memory as far as it fits) -> network -> AdamW
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn

from raystt.files import replacing
from raystt.speech import SAMPLE_RATE
from raystt.vocoder.conv import ConvVocoder, Shape
from raystt.vocoder.network import Example, UnitNetwork
from raystt.vocoder.spectrum import Acoustics, VocoderError

Utterance = tuple[np.ndarray, np.ndarray, str | np.ndarray]
"""Units int `[units]`, durations int `[units]` (unit frames), and the audio that was encoded: its
file, or float32 `[samples]`."""

_KEPT = 128 * 2**20  # bytes of features in memory: 90 minutes of speech; the rest is read each time
_STATE_EVERY = 50  # steps; as many are lost at most when a process is killed

# What the last frame of a speech encoder may leave out at the end, or pad: its window.
_SLACK = round(0.04 * SAMPLE_RATE)


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
        batch: sentences a step, over all ranks.
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
class Rank:
    """Place among the processes of `torch.distributed`, and the device to compute on."""

    index: int = 0
    world: int = 1
    device: str = "cpu"


ALONE = Rank()


def train_vocoder(
    utterances: Sequence[Utterance],
    settings: Settings,
    *,
    rank: Rank = ALONE,
    state: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> ConvVocoder:
    """Fit a vocoder; the same arguments give the same vocoder on every rank.

    Args:
        utterances: sentences; those without units are left out.
        settings: what is fitted, and how.
        rank: which process of how many this is.
        state: file for what a killed fit continues from, kept by rank 0 and left behind at the end.
            A state of other settings or sentences is not used.
        on_step: told (step from 1 on, steps, loss of the whole batch) of every step.

    Raises:
        VocoderError: there is nothing to fit to, a unit is not of the codebook, the durations of a
            sentence do not fit its audio, frames are of an odd length, the mel vocoder cannot be
            had, or the loss is not finite.
        AudioError: a file cannot be read.
    """
    frame_samples = round(settings.frame_seconds * SAMPLE_RATE)
    shape = Shape(settings.clusters, 0, frame_samples, settings.hidden, longest=1)
    acoustics = shape.acoustics(settings.mel)
    features = _Features(utterances, shape, acoustics)
    shape = dataclasses.replace(shape, longest=features.longest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = shape.network(acoustics).to(rank.device)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, betas=(0.9, 0.98))
    identity = _identity(utterances, settings)
    done = _resume(state, identity, network, optimizer, rank.device) if state else 0
    batches = _batches(len(features), settings.batch, settings.seed)
    for step, chosen in enumerate(islice(batches, done, settings.steps), start=done + 1):
        _set_rate(optimizer, settings, step)
        optimizer.zero_grad()
        loss = _gradients(network, features, chosen, rank)
        if not np.isfinite(loss):
            raise VocoderError(
                f"the loss of the vocoder is {loss} at step {step} of {settings.steps}; look for "
                "audio that is not speech, or change corpus.seed"
            )
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if state is not None and rank.index == 0 and step % _STATE_EVERY == 0:
            _keep(state, identity, step, network, optimizer)
        if on_step is not None:
            on_step(step, settings.steps, loss)
    return ConvVocoder(shape, network, features.mean, features.scale, acoustics)


class _Features:
    """What the network is to say of each sentence, normalised.

    The first sentences, up to `_KEPT` bytes of features, stay in memory; mean and scale are theirs.

    Attributes:
        longest: longest duration of a unit, unit frames.
        mean, scale: float32 `[mels]`.
    """

    def __init__(self, utterances: Sequence[Utterance], shape: Shape, acoustics: Acoustics) -> None:
        self._shape, self._acoustics = shape, acoustics
        self._sentences: list[tuple[int, Tensor, Tensor, str | np.ndarray]] = []
        for index, (units, durations, audio) in enumerate(utterances):
            if len(durations) != len(units) or np.min(durations, initial=1) < 1:
                raise VocoderError(
                    f"training sentence {index}: {len(units)} units with {len(durations)} "
                    "durations; every unit needs a duration of 1 frame or more"
                )
            if len(units):
                local = shape.local(units, f"training sentence {index}")
                lasting = torch.from_numpy(np.array(durations, np.int64))
                self._sentences.append((index, local, lasting, audio))
        if not self._sentences:
            raise VocoderError("no units to fit the vocoder to; give it sentences with audio")
        self.longest = max(int(durations.max()) for _, _, durations, _ in self._sentences)
        self._kept: list[Tensor] = []
        free = _KEPT
        while free > 0 and len(self._kept) < len(self._sentences):
            self._kept.append(self._analyse(len(self._kept)))
            free -= self._kept[-1].nbytes
        every = torch.cat(self._kept).reshape(-1, acoustics.mels)
        self.mean, self.scale = every.mean(dim=0), every.std(dim=0) + 1e-3
        for frames in self._kept:
            self._normalise(frames)

    def __len__(self) -> int:
        return len(self._sentences)

    def size(self, index: int) -> tuple[int, int]:
        """Return units and unit frames of a sentence."""
        durations = self._sentences[index][2]
        return len(durations), int(durations.sum())

    def example(self, index: int) -> Example:
        """Return a sentence to learn from."""
        _, units, durations, _ = self._sentences[index]
        if index < len(self._kept):
            return Example(units, durations, self._kept[index])
        return Example(units, durations, self._normalise(self._analyse(index)))

    def _normalise(self, frames: Tensor) -> Tensor:
        frames.view(-1, self._acoustics.mels).sub_(self.mean).div_(self.scale)
        return frames

    def _analyse(self, index: int) -> Tensor:
        given, _, durations, audio = self._sentences[index]
        waveform = _waveform(audio)
        count, frame_samples = int(durations.sum()), self._shape.frame_samples
        if abs(count * frame_samples - len(waveform)) > max(frame_samples, _SLACK):
            named = f" ({audio})" if isinstance(audio, str) else ""
            raise VocoderError(
                f"training sentence {given}{named}: durations of {count} frames of {frame_samples} "
                f"samples do not fit a waveform of {len(waveform)} samples; pass the audio that "
                "was encoded"
            )
        samples = torch.from_numpy(waveform.astype(np.float32))
        return self._acoustics.log_mel(samples, count * frame_samples)


def _waveform(audio: str | np.ndarray) -> np.ndarray:
    if isinstance(audio, np.ndarray):
        return audio
    from raystt.speech.audio import read_audio

    return read_audio(audio)


def _batches(sentences: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Yield the sentences of each step, without end: one random order of all after the other."""
    order = np.random.default_rng(seed)
    queue: list[int] = []
    while True:
        while len(queue) < batch:
            queue += order.permutation(sentences).tolist()
        yield queue[:batch]
        queue = queue[batch:]


def _set_rate(optimizer: torch.optim.Optimizer, settings: Settings, step: int) -> None:
    steps = settings.steps
    rate = min(step / (0.05 * steps), (steps - step) / (0.95 * steps) + 1e-3)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * rate


def _gradients(network: UnitNetwork, features: _Features, chosen: list[int], rank: Rank) -> float:
    """Put the gradients of the whole batch in place, and return its loss."""
    own = chosen[rank.index :: rank.world]
    loss = torch.zeros((), device=rank.device)
    if own:
        here, whole = _size(network, features, own), _size(network, features, chosen)
        share = (here[0] / whole[0], here[1] / whole[1])
        loss = network.loss([features.example(index) for index in own], share)
        loss.backward()
    if rank.world > 1:
        weights = list(network.parameters())
        given = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        flat = torch.cat([loss.detach().reshape(1), *(gradient.reshape(-1) for gradient in given)])
        distributed.all_reduce(flat)
        loss, *parts = flat.split([1, *(weight.numel() for weight in weights)])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)
    return float(loss.detach())


def _size(network: UnitNetwork, features: _Features, chosen: list[int]) -> tuple[int, int]:
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


def _keep(
    path: Path, identity: str, step: int, network: UnitNetwork, optimizer: torch.optim.Optimizer
) -> None:
    states = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    with replacing(path) as temporary:
        torch.save({"identity": identity, "step": step, **states}, temporary)


def _resume(
    path: Path,
    identity: str,
    network: UnitNetwork,
    optimizer: torch.optim.Optimizer,
    device: str,
) -> int:
    """Continue from a state, if there is one of this fit; return the steps that are done."""
    if not path.exists():
        return 0
    held = torch.load(path, map_location=device, weights_only=True)
    if held["identity"] != identity:
        return 0
    network.load_state_dict(held["network"])
    optimizer.load_state_dict(held["optimizer"])
    return int(held["step"])
