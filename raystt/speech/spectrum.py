"""Log-mel spectra and back: the end of a vocoder that needs no training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import griffinlim, melscale_fbanks

from raystt.speech import SAMPLE_RATE

_FFT = 512  # samples; 32 ms. Longer ones cost more and were understood worse
_HOP = 160  # samples; about 10 ms
_ITERATIONS = 6  # more were not understood better
_FLOOR = 1e-3  # of magnitudes, well below the dither's


class Spectrum:
    """Log-mel analysis and Griffin-Lim synthesis on the grid of unit frames.

    Attributes:
        steps: spectrum frames in a unit frame.
        mels: bands.
    """

    mels = 60

    def __init__(self, frame_samples: int) -> None:
        """Place a whole number of steps of about 10 ms in unit frames of `frame_samples`.

        Raises:
            ValueError: the samples cannot be divided so.
        """
        self.steps = max(1, round(frame_samples / _HOP))
        if frame_samples % self.steps:
            raise ValueError(
                f"a unit frame of {frame_samples} samples does not divide into {self.steps} equal "
                f"steps; choose units with frames of a multiple of {_HOP} samples"
            )
        self._hop = frame_samples // self.steps
        self._window = torch.hann_window(_FFT)
        self._bank = melscale_fbanks(
            _FFT // 2 + 1, 60.0, SAMPLE_RATE / 2, self.mels, SAMPLE_RATE, "slaney", "slaney"
        )
        self._inverse = torch.linalg.pinv(self._bank)

    def log_mel(self, waveform: Tensor, frames: int) -> Tensor:
        """Analyse float32 `[samples]`, cut or padded to unit frames: `[frames, steps * mels]`."""
        count = frames * self.steps
        waveform = functional.pad(waveform, (0, max(0, count * self._hop - len(waveform))))
        spectrum = torch.stft(
            waveform, _FFT, self._hop, window=self._window, pad_mode="constant", return_complex=True
        )
        mels = spectrum.abs().T[:count] @ self._bank
        return mels.clamp(min=_FLOOR).log().reshape(frames, self.steps * self.mels)

    def waveform(self, log_mel: Tensor) -> Tensor:
        """Synthesize `[unit frames * steps, mels]` to float32 `[samples]`, all unit frames long."""
        count = len(log_mel) * self._hop
        magnitudes = (log_mel.exp() @ self._inverse).clamp(min=0.0).T
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
        waveform: Tensor = found[:count]
        return waveform
