"""Recordings: any file that libsndfile reads, to the waveforms of raystt, and back to FLAC."""

from __future__ import annotations

import functools
import os
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import numpy as np
import soundfile
import torch
import torchaudio

from raystt.errors import BadInput
from raystt.files import replacing
from raystt.speech import SAMPLE_RATE
from raystt.speech.mp3 import mp3_length

LONGEST = 600.0
"""Longest file that is decoded (seconds): a day in place of a sentence would fill the memory."""

_RATES = (4000, 384000)  # Hz; beyond, the header is damaged or it is not speech
_SHORTFALL = 0.1  # seconds that may miss at the end: a frame or two of a codec
_HEADER = 64  # bytes by which sloppy writers miscount a WAV file: its own header
_UNKNOWN = 0x7FFFF000  # from here on, the size in a WAV header is one of a stream without end


class AudioError(BadInput):
    """A file that holds no usable audio; the text names the file, what is wrong and the fix."""


def read_audio(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode a recording, average its channels, and resample it.

    A file cut short is refused where it can be told: WAV by its size, FLAC by its checksums, MP3 by
    its count of frames or by half a frame at its end. An Ogg, a GSM or a VOX ends where it ends;
    `raystt.preparation.quality` may still find it too short for its text.

    Args:
        path: WAV, FLAC, MP3, Ogg, or what else libsndfile reads; any rate and number of channels.

    Returns:
        float32 [samples] at `SAMPLE_RATE`, full scale 1.

    Raises:
        AudioError: there is no such file, it is not audio, is empty or cut short, lasts longer than
            `LONGEST`, or has samples that are no numbers.
    """
    name = os.fspath(path)
    if not os.path.isfile(name):  # to open a pipe is to wait for what it never says
        _refuse(name, "it is no regular file" if os.path.exists(name) else "there is no such file")
    try:
        with soundfile.SoundFile(name) as file:
            rate, promised = file.samplerate, file.frames
            if not _RATES[0] <= rate <= _RATES[1]:
                _refuse(name, f"a rate of {rate} Hz is no rate of speech")
            if promised > LONGEST * rate:
                _refuse(name, f"its length is unknown or over {LONGEST:g} s")
            # Of some codecs of telephones (GSM, Dialogic) libsndfile cannot seek the end.
            every = -1 if file.seekable() else promised
            samples = file.read(every, dtype="float32", always_2d=True)
            mp3 = mp3_length(Path(name).read_bytes()) if file.format == "MP3" else None
    except (soundfile.SoundFileError, TypeError, ValueError, OSError) as error:
        detail = getattr(error, "error_string", str(error)).strip().rstrip(".")
        _refuse(name, f"it cannot be decoded ({detail})")
    if not len(samples):
        _refuse(name, "it has no samples")
    short = promised - len(samples) > _SHORTFALL * rate
    if mp3 is not None and not mp3.counted:
        short = mp3.cut  # what libsndfile promised is a guess
        if mp3.samples - len(samples) > _SHORTFALL * rate:
            _refuse(name, "only a part of it can be decoded, its bit rate varies without a count")
    if short or _cut_wav(name):
        _refuse(name, f"it is cut short after {len(samples) / rate:.2f} s")
    if not np.isfinite(samples).all():
        _refuse(name, "it has samples that are no numbers")
    return _resampled(np.ascontiguousarray(samples.mean(axis=1)), rate)


def write_flac(path: str | os.PathLike[str], waveform: np.ndarray) -> None:
    """Write a waveform as 16-bit FLAC; a reader sees all of it or the file before it.

    Args:
        path: where to; its folder is made.
        waveform: float32 [samples] at `SAMPLE_RATE`; beyond full scale it is clipped.
    """
    with replacing(path) as temporary:
        soundfile.write(temporary, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def _refuse(name: str, reason: str) -> NoReturn:
    raise AudioError(f"{name}: {reason}; replace the file, or take its row out of the corpus")


def _cut_wav(name: str) -> bool:
    """Tell whether a WAV file is smaller than its header says; libsndfile passes over it."""
    with open(name, "rb") as file:
        head = file.read(12)
        size = file.seek(0, os.SEEK_END)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return False
    promised = int.from_bytes(head[4:8], "little")
    return promised < _UNKNOWN and promised > size + _HEADER


def _resampled(waveform: np.ndarray, rate: int) -> np.ndarray:
    if rate == SAMPLE_RATE:
        return waveform
    with torch.inference_mode():
        return np.asarray(_resampler(rate)(torch.from_numpy(waveform)).numpy())


@functools.lru_cache(16)  # a damaged header may have any rate, and that of an odd one is large
def _resampler(rate: int) -> torchaudio.transforms.Resample:
    # Every usual rate is exact; an odd one is off by less than one part in a million, where its own
    # ratio would need a filter of gigabytes.
    ratio = Fraction(rate, SAMPLE_RATE).limit_denominator(640)
    # The window of torchaudio's documentation for what librosa calls `kaiser_best`.
    return torchaudio.transforms.Resample(
        ratio.numerator,
        ratio.denominator,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        beta=14.769656459379492,
    )
