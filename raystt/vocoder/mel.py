"""Neural mel vocoders by name: transformers' `SpeechT5HifiGan` and the features it was made for."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from raystt.hub import pinned
from raystt.speech import SAMPLE_RATE
from raystt.vocoder.spectrum import VocoderError

if TYPE_CHECKING:  # imported in `load`: it takes seconds, and Griffin-Lim does without
    from transformers import SpeechT5FeatureExtractor, SpeechT5HifiGan


class MelVocoder:
    """Log-mel analysis of SpeechT5, and the HiFi-GAN that speaks it.

    Attributes:
        name: directory, NAME or NAME@REVISION.
        mels: bands, log10 of magnitudes.
        step: samples of a mel frame.
        outputs: numbers in a mel frame, `mels`.
    """

    def __init__(
        self, name: str, model: SpeechT5HifiGan, extractor: SpeechT5FeatureExtractor
    ) -> None:
        """Join a model and its features; use `load` instead.

        Raises:
            VocoderError: they do not fit each other, or speak at another rate.
        """
        self.name = name
        self.mels = self.outputs = int(model.config.model_in_dim)
        self.step = math.prod(model.config.upsample_rates)
        self._model = model.eval().requires_grad_(False)
        self._extractor = extractor
        said = (self.mels, self.step, model.config.sampling_rate)
        asked = (extractor.num_mel_bins, extractor.sample_stride, extractor.sampling_rate)
        if said != asked or said[2] != SAMPLE_RATE:
            raise VocoderError(
                f"{name}: speaks (bands, samples a frame, Hz) {said}, its features are {asked}; "
                f"choose a mel vocoder of {SAMPLE_RATE} Hz, such as microsoft/speecht5_hifigan"
            )

    @classmethod
    def load(cls, name: str, *, device: str = "cpu") -> MelVocoder:
        """Load a mel vocoder.

        The features are those of `preprocessor_config.json` beside the model, or SpeechT5's own
        (80 bands of 80 to 7600 Hz, windows of 64 ms every 16 ms), where there is none.

        Args:
            name: directory, NAME or NAME@REVISION of a `SpeechT5HifiGan`.
            device: where it runs.

        Raises:
            VocoderError: it cannot be loaded, or is not a mel vocoder at 16 kHz.
        """
        from transformers import SpeechT5FeatureExtractor, SpeechT5HifiGan
        from transformers.utils import cached_file

        path, revision = pinned(name)
        try:
            own = cached_file(
                path,
                "preprocessor_config.json",
                revision=revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            extractor = SpeechT5FeatureExtractor()
            if own is not None:
                extractor = SpeechT5FeatureExtractor.from_pretrained(path, revision=revision)
            model, info = SpeechT5HifiGan.from_pretrained(
                path, revision=revision, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise VocoderError(
                f"mel vocoder {name} cannot be loaded ({error}); give the directory or hub name of "
                "a SpeechT5HifiGan, such as microsoft/speecht5_hifigan"
            ) from error
        if info["missing_keys"]:
            raise VocoderError(
                f"mel vocoder {name} lacks weights ({', '.join(sorted(info['missing_keys'])[:3])}, "
                "...); give a SpeechT5HifiGan, such as microsoft/speecht5_hifigan"
            )
        return cls(name, model.to(device), extractor)

    @property
    def weights(self) -> str:
        """Hash of the weights, 8 hex digits."""
        digest = hashlib.blake2b(digest_size=4)
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def signature(self) -> str:
        """Name and weights; of a directory its last part, which is the same on any machine."""
        shown = Path(self.name).name if Path(self.name).is_dir() else self.name
        return f"{shown}-{self.weights}"

    def log_mel(self, waveform: Tensor, samples: int) -> Tensor:
        """Analyse float32 `[any]`, cut or padded to `samples`: float32 `[mel frames, mels]`.

        Mel frame m is centred at sample `m * step`; there are as many as begin within `samples`.
        """
        waveform = functional.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
        found = self._extractor(audio_target=waveform.numpy(), sampling_rate=SAMPLE_RATE)
        mels = np.asarray(found["input_values"][0], np.float32)
        return torch.from_numpy(mels[: -(-samples // self.step)])

    @torch.no_grad()
    def waveform(self, log_mel: Tensor, samples: int) -> Tensor:
        """Synthesize float32 `[mel frames, mels]` to float32 `[samples]`, on the CPU."""
        waveform: Tensor = self._model(log_mel.to(self._model.device))[:samples]
        return waveform.cpu()
