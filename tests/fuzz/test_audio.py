"""Recordings of the formats that people hand over, damaged at their head and anywhere."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from raystt.speech import SAMPLE_RATE
from raystt.speech.audio import LONGEST, AudioError, read_audio
from tests.fuzz.harness import damaged, fuzzed, outcome


def made(form: str, subtype: str | None, rate: int, channels: int = 1) -> bytes:
    """A quarter of a second of a tone."""
    time = np.arange(rate // 4) / rate
    samples = np.repeat(0.3 * np.sin(2 * np.pi * 300 * time)[:, None], channels, axis=1)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


_FILES = {
    "wav": [
        made("WAV", "PCM_16", 16000), made("WAV", "ULAW", 8000), made("WAV", "FLOAT", 44100, 2),
        made("WAV", "GSM610", 8000), made("WAV", "IMA_ADPCM", 8000), made("WAVEX", "PCM_24", 22050),
    ],
    "mp3": [made("MP3", None, 16000), made("MP3", None, 44100, 2)],
    "flac": [made("FLAC", "PCM_16", 16000), made("FLAC", "PCM_24", 48000, 2)],
    "ogg": [made("OGG", "VORBIS", 16000), made("OGG", "OPUS", 16000, 2)],
    "gsm": [made("RAW", "GSM610", 8000)],
    "vox": [made("RAW", "VOX_ADPCM", 8000)],
    "au": [made("AU", "PCM_16", 16000)],
    "aiff": [made("AIFF", "PCM_16", 16000)],
    "caf": [made("CAF", "PCM_16", 16000)],
    "w64": [made("W64", "PCM_16", 16000)],
}  # fmt: skip
_TOKENS = (
    *(
        b"\0" * 4,
        b"\xff" * 4,
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x80\0\0\0",
        b"\0\0\0\x80",
    ),
    *(b"RIFF", b"WAVE", b"fmt ", b"data", b"LIST", b"fact", b"bext", b"fLaC", b"OggS", b"ID3"),
    *(b"Xing", b"Info", b"LAME", b"TAG", b"\xff\xfb\x90\x64", b"\xff\xf3\x18\xc4", b""),
    *(b"RF64", b"RIFX", b"FORM", b"AIFC", b"caff", b".snd", b"riff", b"SSND", b"COMM", b"desc"),
    *(b"\0\0\0\x80", b"\0" * 64),
)


@st.composite
def heads(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """Damage within the first bytes, where sizes, rates and counts are."""
    whole = draw(st.sampled_from(wholes))
    return draw(damaged([whole[:80]], _TOKENS)) + whole[80:]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A suffix, and what is in the file: of this format or of another."""
    suffix = draw(st.sampled_from(sorted(_FILES)))
    form = suffix if draw(st.integers(0, 9)) else draw(st.sampled_from(sorted(_FILES)))
    wholes = _FILES[form]
    data = draw(heads(wholes) | heads(wholes) | damaged(wholes, _TOKENS) | st.binary(max_size=99))
    return suffix, data


@fuzzed
@given(file=files())
@example(file=("wav", b""))
@example(file=("raw", b"\0" * 1000))
def test_recordings(tmp_path: Path, file: tuple[str, bytes]) -> None:
    suffix, data = file
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    waveform = outcome("recordings", lambda: read_audio(path), AudioError, [path])
    if waveform is not None:
        assert waveform.dtype == np.float32 and waveform.ndim == 1 and len(waveform)
        assert np.isfinite(waveform).all() and len(waveform) <= (LONGEST + 1) * SAMPLE_RATE
