"""What the vocoder "conv" is fitted to: units, durations and the normalised log-mels of audio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raystt.speech import SAMPLE_RATE
from raystt.speech.audio import read_audio
from raystt.vocoder.conv import Shape, VocoderError
from raystt.vocoder.network import Example
from raystt.vocoder.spectrum import Acoustics

Utterance = tuple[np.ndarray, np.ndarray, str | np.ndarray]
"""Units int `[units]`, durations int `[units]` (unit frames), and the audio that was encoded: its
file, or float32 `[samples]`."""

_KEPT = 128 * 2**20  # bytes of features in memory: 90 minutes of speech; the rest is read each time

# What the last frame of a speech encoder may leave out at the end, or pad: its window.
_SLACK = round(0.04 * SAMPLE_RATE)


class Features:
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
        waveform = audio if isinstance(audio, np.ndarray) else read_audio(audio)
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
