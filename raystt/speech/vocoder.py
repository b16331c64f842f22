"""Vocoders: speech units to waveforms.

A vocoder is looked up by name in `VOCODERS`, fitted to a corpus once and loaded by every
evaluator. "conv" is small enough for a CPU:

    units -> embedding -> 2 convolutions -> durations
                              |-> repeated by durations -> 3 convolutions -> log-mel -> Griffin-Lim
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raystt.speech import SAMPLE_RATE
from raystt.speech.spectrum import Spectrum
from raystt.speech.unit_network import Example, UnitNetwork

Utterance = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Units int `[units]`, durations int `[units]` (unit frames), waveform float32 `[samples]`."""

_CARD, _WEIGHTS = "vocoder.json", "vocoder.safetensors"


class VocoderError(Exception):
    """A vocoder cannot be fitted, found or used; the message names the place and the fix."""


class Vocoder(Protocol):
    """What an entry of `VOCODERS` offers; see `ConvVocoder` for the meaning of each member."""

    @classmethod
    def fit(
        cls,
        pairs: Sequence[Utterance],
        *,
        clusters: int,
        offset: int = 0,
        seed: int = 0,
        steps: int = 300,
        on_step: Callable[[int, int, float], None] | None = None,
    ) -> Vocoder: ...

    @classmethod
    def load(cls, directory: str | Path) -> Vocoder: ...

    def save(self, directory: str | Path) -> None: ...

    def synthesize(self, units: Sequence[np.ndarray]) -> list[np.ndarray]: ...

    @property
    def signature(self) -> str: ...


@dataclass(frozen=True)
class _Shape:
    """What the network is built from.

    Attributes:
        clusters: units of the codebook.
        offset: id of its first unit.
        frame_samples: samples of a unit of duration 1.
        hidden: channels.
        longest: longest duration that is synthesized, in unit frames.
    """

    clusters: int
    offset: int
    frame_samples: int
    hidden: int
    longest: int


class ConvVocoder:
    """A convolutional network from units to log-mel frames, and Griffin-Lim."""

    def __init__(self, shape: _Shape, network: UnitNetwork, mean: Tensor, scale: Tensor) -> None:
        """Assemble a fitted vocoder; use `fit` or `load` instead.

        Args:
            shape: what the network was built from.
            network: the weights.
            mean: float32 `[mels]`, log-mel of the training audio.
            scale: float32 `[mels]`, its standard deviation.
        """
        self.shape = shape
        self._network = network.eval()
        self._mean, self._scale = mean, scale
        self._spectrum = Spectrum(shape.frame_samples)

    @classmethod
    def fit(
        cls,
        pairs: Sequence[Utterance],
        *,
        clusters: int,
        offset: int = 0,
        frame_seconds: float = 0.06,
        seed: int = 0,
        steps: int = 300,
        batch: int = 16,
        hidden: int = 128,
        learning_rate: float = 4e-3,
        on_step: Callable[[int, int, float], None] | None = None,
    ) -> ConvVocoder:
        """Fit a vocoder to the speech of a corpus; the same arguments give the same vocoder.

        Args:
            pairs: (units, durations, waveform) of each sentence.
            clusters: units of the codebook, also those that no sentence uses.
            offset: id of the codebook's first unit, here and in `synthesize`: units are ids from
                `offset` to `offset + clusters - 1`.
            frame_seconds: what a unit of duration 1 lasts.
            seed: of weights and order.
            steps: optimiser steps.
            batch: sentences a step.
            hidden: channels.
            learning_rate: at its peak; it rises over the first 5 % and falls to 0.
            on_step: told (step from 1 on, steps, loss) of every step.

        Raises:
            VocoderError: there is nothing to fit to, a unit is not of the codebook, the durations
                of a sentence do not fit its waveform, or frames are of an odd length.
        """
        frame_samples = round(frame_seconds * SAMPLE_RATE)
        try:
            spectrum = Spectrum(frame_samples)
        except ValueError as error:
            raise VocoderError(str(error)) from error
        shape = _Shape(clusters, offset, frame_samples, hidden, longest=1)
        data: list[Example] = []
        for index, (units, durations, waveform) in enumerate(pairs):
            if len(units) == 0:
                continue
            count = _check(index, units, durations, waveform, frame_samples)
            local = _local(units, shape, f"training sentence {index}")
            frames = spectrum.log_mel(torch.from_numpy(waveform.astype(np.float32)), count)
            data.append(Example(local, torch.from_numpy(np.array(durations, np.int64)), frames))
        if not data:
            raise VocoderError("no units to fit the vocoder to; give it sentences with audio")
        every = torch.cat([example.frames for example in data]).reshape(-1, spectrum.mels)
        mean, scale = every.mean(dim=0), every.std(dim=0) + 1e-3
        for example in data:
            example.frames.view(-1, spectrum.mels).sub_(mean).div_(scale)
        longest = max(int(example.durations.max()) for example in data)
        shape = _Shape(clusters, offset, frame_samples, hidden, longest)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(shape, spectrum)
        optimizer = torch.optim.AdamW(network.parameters(), learning_rate, betas=(0.9, 0.98))
        order = np.random.default_rng(seed)
        queue: list[int] = []
        for step in range(1, steps + 1):
            rate = min(step / (0.05 * steps), (steps - step) / (0.95 * steps) + 1e-3)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * rate
            while len(queue) < batch:
                queue += order.permutation(len(data)).tolist()
            chosen, queue = [data[index] for index in queue[:batch]], queue[batch:]
            loss = network.loss(chosen)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if on_step is not None:
                on_step(step, steps, float(loss.detach()))
        return cls(shape, network, mean, scale)

    @torch.no_grad()
    def synthesize(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Synthesize sentences, each on its own: the batch changes nothing.

        Args:
            units: int `[units]` each, ids of the codebook (see `fit`), deduplicated. No units give
                no samples.

        Returns:
            float32 `[samples]` each, 16 kHz.

        Raises:
            VocoderError: a unit is not of the codebook.
        """
        waveforms = []
        for index, ids in enumerate(units):
            if len(ids) == 0:
                waveforms.append(np.zeros(0, np.float32))
                continue
            local = _local(ids, self.shape, f"sentence {index}")
            frames = self._network.synthesize(local, self.shape.longest)
            mels = frames.reshape(-1, self._spectrum.mels) * self._scale + self._mean
            waveforms.append(self._spectrum.waveform(mels).numpy())
        return waveforms

    @property
    def signature(self) -> str:
        """Name the vocoder and its weights (by a hash of them)."""
        digest = hashlib.blake2b(json.dumps(asdict(self.shape)).encode(), digest_size=4)
        for _, tensor in sorted(self._tensors().items()):
            digest.update(tensor.numpy().tobytes())
        return f"conv-{digest.hexdigest()}"

    def save(self, directory: str | Path) -> None:
        """Write the vocoder to a directory, made if needed."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._tensors(), folder / _WEIGHTS)
        card = {"vocoder": "conv", **asdict(self.shape)}
        (folder / _CARD).write_text(json.dumps(card, indent=1) + "\n")

    @classmethod
    def load(cls, directory: str | Path) -> ConvVocoder:
        """Read what `save` wrote.

        Raises:
            VocoderError: a file is missing or is not of this vocoder.
        """
        folder = Path(directory)
        try:
            card = json.loads((folder / _CARD).read_text())
            tensors = load_file(folder / _WEIGHTS)
            if card.pop("vocoder") != "conv":
                raise ValueError(f"{_CARD} is not of the vocoder 'conv'")
            shape = _Shape(**card)
            spectrum = Spectrum(shape.frame_samples)
            network = _network(shape, spectrum)
            mean, scale = tensors.pop("mean"), tensors.pop("scale")
            network.load_state_dict(tensors)
        except Exception as error:  # whatever is wrong with the files, the fix is the same
            raise VocoderError(
                f"{folder} holds no readable vocoder ({error}); fit it again with: raystt prepare"
            ) from error
        return cls(shape, network, mean, scale)

    def _tensors(self) -> dict[str, Tensor]:
        weights = {name: value.detach() for name, value in self._network.state_dict().items()}
        return {"mean": self._mean, "scale": self._scale, **weights}


VOCODERS: dict[str, type[Vocoder]] = {"conv": ConvVocoder}


def vocoder(name: str) -> type[Vocoder]:
    """Look a vocoder up.

    Raises:
        VocoderError: there is none of that name.
    """
    if name not in VOCODERS:
        raise VocoderError(
            f"vocoder {name!r} is unknown; take one of: {', '.join(sorted(VOCODERS))}"
        )
    return VOCODERS[name]


def _network(shape: _Shape, spectrum: Spectrum) -> UnitNetwork:
    return UnitNetwork(shape.clusters, shape.hidden, spectrum.steps * spectrum.mels)


def _check(
    index: int, units: np.ndarray, durations: np.ndarray, waveform: np.ndarray, frame_samples: int
) -> int:
    """Return the unit frames of a sentence whose parts fit together."""
    if len(durations) != len(units) or np.min(durations) < 1:
        raise VocoderError(
            f"training sentence {index}: {len(units)} units with {len(durations)} durations; "
            "every unit needs a duration of 1 frame or more"
        )
    count = int(np.sum(durations))
    if abs(count * frame_samples - len(waveform)) > frame_samples:
        raise VocoderError(
            f"training sentence {index}: durations of {count} frames of {frame_samples} samples "
            f"do not fit a waveform of {len(waveform)} samples; pass the audio that was encoded"
        )
    return count


def _local(units: np.ndarray, shape: _Shape, where: str) -> Tensor:
    """Return indices of the codebook, int64 `[units]`, of unit ids."""
    ids = np.asarray(units, np.int64)
    strange = ids[(ids < shape.offset) | (ids >= shape.offset + shape.clusters)]
    if len(strange):
        raise VocoderError(
            f"{where}: unit {strange[0]} is not in the vocoder's codebook, which holds "
            f"{shape.offset} to {shape.offset + shape.clusters - 1}; pass ids with its offset"
        )
    return torch.from_numpy(ids - shape.offset)
