"""Log-mel spectra and back: the end of a vocoder that needs no training."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import griffinlim, melscale_fbanks

from raystt.errors import BadInput
from raystt.speech import SAMPLE_RATE

_FFT = 512  # samples; 32 ms. Longer ones cost more and were understood worse
_HOP = 160  # samples; about 10 ms
_ITERATIONS = 6  # more were not understood better
_FLOOR = 1e-3  # of magnitudes, well below the dither's


class VocoderError(BadInput):
    """A vocoder cannot be fitted, found or used; the message names the place and the fix."""


class Acoustics(Protocol):
    """What the network of the vocoder "conv" is to say, and how that becomes a waveform.

    Attributes:
        mels: bands.
        step: samples of a frame of the network.
        outputs: numbers in a frame of the network, a multiple of `mels`.
    """

    mels: int
    step: int
    outputs: int

    def log_mel(self, waveform: Tensor, samples: int) -> Tensor:
        """Analyse float32 `[any]`, cut or padded to `samples`: float32 `[frames, outputs]`."""

    def waveform(self, log_mel: Tensor, samples: int) -> Tensor:
        """Synthesize float32 `[spectrum frames, mels]` to float32 `[samples]`, on the CPU."""


class Spectrum:
    """Log-mel analysis and Griffin-Lim synthesis on the grid of unit frames.

    Attributes:
        mels: bands.
        step: samples of a unit frame.
        outputs: numbers in a unit frame, which holds several spectrum frames.
    """

    mels = 60

    def __init__(self, frame_samples: int) -> None:
        """Place a whole number of spectrum frames, each about 10 ms, in `frame_samples`.

        Raises:
            VocoderError: the samples cannot be divided so.
        """
        count = max(1, round(frame_samples / _HOP))
        if frame_samples % count:
            raise VocoderError(
                f"a unit frame of {frame_samples} samples does not divide into {count} equal "
                f"steps; choose units with frames of a multiple of {_HOP} samples"
            )
        self.step = frame_samples
        self.outputs = count * self.mels
        self._hop = frame_samples // count
        self._window = torch.hann_window(_FFT)
        self._bank = melscale_fbanks(
            _FFT // 2 + 1, 60.0, SAMPLE_RATE / 2, self.mels, SAMPLE_RATE, "slaney", "slaney"
        )
        self._inverse = torch.linalg.pinv(self._bank)

    def log_mel(self, waveform: Tensor, samples: int) -> Tensor:
        """Analyse float32 `[any]`, cut or padded to `samples`: float32 `[frames, outputs]`."""
        count = samples // self._hop
        waveform = functional.pad(waveform, (0, max(0, samples - len(waveform))))
        spectrum = torch.stft(
            waveform, _FFT, self._hop, window=self._window, pad_mode="constant", return_complex=True
        )
        mels = spectrum.abs().T[:count] @ self._bank
        return mels.clamp(min=_FLOOR).log().reshape(-1, self.outputs)

    def waveform(self, log_mel: Tensor, samples: int) -> Tensor:
        """Synthesize float32 `[spectrum frames, mels]` to float32 `[samples]`, on the CPU."""
        # Griffin-Lim's iterations would drift apart between devices; on the CPU they are the same.
        magnitudes = (log_mel.cpu().exp() @ self._inverse).clamp(min=0.0).T
        # Silence behind, cut off again: the last step is heard in full, and nothing is too short.
        magnitudes = functional.pad(magnitudes, (0, -(-_FFT // self._hop)))
        # The phases start at random; seeded here, so that a sentence always sounds the same.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = griffinlim(
                magnitudes,
                self._window,
                n_fft=_FFT,
                hop_length=self._hop,
                win_length=_FFT,
                power=1.0,
                n_iter=_ITERATIONS,
                momentum=0.99,
                length=None,
                rand_init=True,
            )
        waveform: Tensor = found[:samples]
        return waveform
