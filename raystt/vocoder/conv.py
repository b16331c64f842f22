"""The vocoder "conv", fitted to a corpus and small enough for a CPU.

    units -> embedding -> 2 convolutions -> durations
                   |-> repeated by durations -> 3 convolutions -> log-mel -> Griffin-Lim, or
                                                                    a neural mel vocoder

`raystt.preparation.fit_vocoder` fits it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from raystt.vocoder.mel import MelVocoder
from raystt.vocoder.network import UnitNetwork
from raystt.vocoder.seamless import CARD
from raystt.vocoder.spectrum import Acoustics, Spectrum, VocoderError

_WEIGHTS = "vocoder.safetensors"


@dataclass(frozen=True)
class Shape:
    """What the network of "conv" is built from.

    Attributes:
        clusters: units of the codebook.
        offset: id of its first unit.
        frame_samples: samples of a unit of duration 1.
        hidden: channels.
        longest: longest duration that is synthesized, in unit frames. Where it is 1, durations are
            not predicted: units are not deduplicated.
    """

    clusters: int
    offset: int
    frame_samples: int
    hidden: int
    longest: int

    def acoustics(self, mel: str | None, device: str = "cpu") -> Acoustics:
        """Make what turns waveforms into frames of the network, and back.

        Args:
            mel: mel vocoder (see `MelVocoder.load`), or None for Griffin-Lim.
            device: where the mel vocoder runs.

        Raises:
            VocoderError: there is no such mel vocoder, or unit frames are of an odd length.
        """
        return Spectrum(self.frame_samples) if mel is None else MelVocoder.load(mel, device=device)

    def network(self, acoustics: Acoustics) -> UnitNetwork:
        """Make the network, its weights drawn from torch's generator."""
        return UnitNetwork(
            self.clusters,
            self.hidden,
            acoustics.outputs,
            frame_samples=self.frame_samples,
            step=acoustics.step,
            durations=self.longest > 1,
        )

    def local(self, units: np.ndarray, where: str) -> Tensor:
        """Return indices of the codebook, int64 `[units]`, of unit ids.

        Raises:
            VocoderError: a unit is not of the codebook.
        """
        ids = np.asarray(units, np.int64)
        strange = ids[(ids < self.offset) | (ids >= self.offset + self.clusters)]
        if len(strange):
            raise VocoderError(
                f"{where}: unit {strange[0]} is not in the vocoder's codebook, which holds "
                f"{self.offset} to {self.offset + self.clusters - 1}; pass ids with its offset"
            )
        return torch.from_numpy(ids - self.offset)


class ConvVocoder:
    """A convolutional network from units to log-mel frames, and Griffin-Lim or a mel vocoder."""

    def __init__(
        self, shape: Shape, network: UnitNetwork, mean: Tensor, scale: Tensor, acoustics: Acoustics
    ) -> None:
        """Assemble a fitted vocoder; use `raystt.preparation.fit_vocoder` or `load` instead.

        Args:
            shape: what the network was built from.
            network: the weights; synthesis runs on their device.
            mean: float32 `[mels]`, log-mel of the training audio.
            scale: float32 `[mels]`, its standard deviation.
            acoustics: what the network was fitted to say.
        """
        self.shape = shape
        self._network = network.eval()
        device = network.embedding.weight.device
        self._mean, self._scale = mean.to(device), scale.to(device)
        self._acoustics = acoustics

    @torch.no_grad()
    def synthesize(
        self, units: Sequence[np.ndarray], durations: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Synthesize sentences, each on its own: the batch changes nothing.

        Args:
            units: int `[units]` each, indices of the codebook (from `shape.offset` on). No units
                give no samples.
            durations: int `[units]` each, unit frames from 1 on; None = predicted, or 1 where
                units are not deduplicated.

        Returns:
            float32 `[samples]` each, 16 kHz, all unit frames long.

        Raises:
            VocoderError: a unit is not of the codebook.
        """
        waveforms = []
        for index, ids in enumerate(units):
            if len(ids) == 0:
                waveforms.append(np.zeros(0, np.float32))
                continue
            local = self.shape.local(ids, f"sentence {index}")
            given = None
            if durations is not None:
                given = torch.from_numpy(np.asarray(durations[index], np.int64))
            frames, length = self._network.synthesize(local, self.shape.longest, given)
            mels = frames.reshape(-1, self._acoustics.mels) * self._scale + self._mean
            samples = length * self.shape.frame_samples
            waveforms.append(self._acoustics.waveform(mels, samples).numpy())
        return waveforms

    @property
    def signature(self) -> str:
        """Name the vocoder, its weights (by a hash of them), and the mel vocoder's."""
        digest = hashlib.blake2b(json.dumps(asdict(self.shape)).encode(), digest_size=4)
        for _, tensor in sorted(self._tensors().items()):
            digest.update(tensor.numpy().tobytes())
        mel = f"+{self._acoustics.signature}" if isinstance(self._acoustics, MelVocoder) else ""
        return f"conv-{digest.hexdigest()}{mel}"

    def save(self, directory: str | Path) -> None:
        """Write the vocoder to a directory, made if needed; of a mel vocoder only the name."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._tensors(), folder / _WEIGHTS)
        card: dict[str, Any] = {"vocoder": "conv", **asdict(self.shape)}
        if isinstance(self._acoustics, MelVocoder):
            # Evaluators run elsewhere: only the full name of a directory means the same to them.
            name = self._acoustics.name
            named = str(Path(name).resolve()) if Path(name).is_dir() else name
            card["mel"] = {"name": named, "weights": self._acoustics.weights}
        (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "cpu") -> ConvVocoder:
        """Read what `save` wrote.

        Raises:
            VocoderError: a file is missing or is not of this vocoder, or the mel vocoder is not
                to be had or has other weights than it was fitted with.
        """
        folder = Path(directory)
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            tensors = load_file(folder / _WEIGHTS)
            if card.pop("vocoder") != "conv":
                raise ValueError(f"{CARD} is not of the vocoder 'conv'")
            mel: dict[str, str] | None = card.pop("mel", None)
            shape = Shape(**card)
            name, weights = (mel["name"], mel["weights"]) if mel else (None, None)
        except Exception as error:  # whatever is wrong with the files, the fix is the same
            raise _unreadable(folder, error) from error
        acoustics = shape.acoustics(name, device)
        if isinstance(acoustics, MelVocoder) and acoustics.weights != weights:
            raise VocoderError(
                f"{folder}: was fitted for the mel vocoder {name} with weights {weights}, it has "
                f"{acoustics.weights} now; restore these, or fit the vocoder again"
            )
        try:
            network = shape.network(acoustics)
            mean, scale = tensors.pop("mean"), tensors.pop("scale")
            network.load_state_dict(tensors)
        except Exception as error:  # as above
            raise _unreadable(folder, error) from error
        return cls(shape, network.to(device), mean, scale, acoustics)

    def _tensors(self) -> dict[str, Tensor]:
        weights = {name: value.detach() for name, value in self._network.state_dict().items()}
        everything = {"mean": self._mean, "scale": self._scale, **weights}
        return {name: value.cpu() for name, value in everything.items()}


def _unreadable(folder: Path, error: Exception) -> VocoderError:
    return VocoderError(
        f"{folder} holds no readable vocoder ({error}); fit it again with: raystt prepare"
    )
