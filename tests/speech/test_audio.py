"""Recordings: what is read, to which waveform, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import encode, speak

from raystt.speech import SAMPLE_RATE
from raystt.speech.audio import AudioError, read_audio, write_flac
from raystt.speech.mp3 import Mp3Length, mp3_length

RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)


def tone(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    """A sine of amplitude 0.5, float32 [samples] at `rate`."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def middle(waveform: np.ndarray) -> np.ndarray:
    """All but 50 ms at both ends, where filters and codecs begin and stop."""
    return waveform[SAMPLE_RATE // 20 : -SAMPLE_RATE // 20]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_any_rate_and_format_gives_the_same_waveform(
    tmp_path: Path, rate: int, suffix: str
) -> None:
    path = tmp_path / f"tone.{suffix}"
    samples = tone(440, rate)
    soundfile.write(path, np.stack([samples, samples], axis=1), rate, format=suffix.upper())
    waveform = read_audio(path)
    assert waveform.dtype == np.float32 and waveform.ndim == 1
    assert len(waveform) == SAMPLE_RATE
    error = middle(waveform - tone(440, SAMPLE_RATE))
    assert np.abs(error).max() < (1e-3 if suffix in ("wav", "flac") else 0.08)


@pytest.mark.parametrize(
    ("name", "form", "subtype"),
    [("a.gsm", "RAW", "GSM610"), ("a.vox", "RAW", "VOX_ADPCM"), ("a.wav", "WAV", "GSM610")],
)
def test_codecs_of_telephones_that_cannot_be_sought_are_read(
    tmp_path: Path, name: str, form: str, subtype: str
) -> None:
    path = tmp_path / name
    soundfile.write(path, tone(300, 8000), 8000, format=form, subtype=subtype)
    waveform = read_audio(path)
    assert SAMPLE_RATE <= len(waveform) <= SAMPLE_RATE + 640  # a block of GSM in a WAV
    spectrum = np.abs(np.fft.rfft(middle(waveform)))
    assert abs(np.argmax(spectrum) * SAMPLE_RATE / len(middle(waveform)) - 300) < 2
    path.write_bytes(b"")
    with pytest.raises(AudioError, match=name):
        read_audio(path)


def test_the_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.array([[0.5, 0.0], [0.25, -0.25]]), 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path), np.array([0.25, 0.0], np.float32))


def test_what_16_khz_cannot_hold_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(10_000, 48000), 48000, subtype="FLOAT")
    assert np.abs(middle(read_audio(path))).max() < 1e-3  # not the 6 kHz it would fold to


def test_a_rate_that_divides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(440, 44_099), 44_099, subtype="FLOAT")
    waveform = read_audio(path)
    assert abs(len(waveform) - SAMPLE_RATE) <= 1
    error = middle(waveform[: SAMPLE_RATE - 1] - tone(440, SAMPLE_RATE)[:-1])
    assert np.abs(error).max() < 0.02  # it drifts by a third of a sample in a second


@pytest.mark.parametrize(("suffix", "rate"), [("mp3", 48000), ("wav", 8000), ("flac", 44100)])
@pytest.mark.parametrize("text", ["aquí", "mi hermano ve dos libros rojos en casa cada mañana"])
def test_speech_goes_through(tmp_path: Path, suffix: str, rate: int, text: str) -> None:
    spoken = speak(text, "es")
    waveform = read_audio(encode(tmp_path / f"speech.{suffix}", spoken, rate, channels=2))
    assert abs(len(waveform) - len(spoken)) <= 2
    shortest = min(len(waveform), len(spoken))
    # The second channel is half as loud: the average is three quarters.
    alike = np.corrcoef(waveform[:shortest], spoken[:shortest])[0, 1]
    assert alike > (0.97 if rate > SAMPLE_RATE else 0.85)  # a telephone has no 4 to 8 kHz


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.0])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = encode(tmp_path / f"cut.{suffix}", tone(300, SAMPLE_RATE, 4.0), 24000)
    assert len(read_audio(path)) == 4 * SAMPLE_RATE
    with pytest.raises(AudioError, match=r"cut\.\w+: it .*; replace the file"):
        read_audio(cut(path, share))


def untagged(path: Path, samples: np.ndarray, mode: str, tag: bytes = b"") -> Path:
    """Write an MP3 of 24 kHz without the first frame, which counts the others."""
    soundfile.write(path, samples, 24000, format="MP3", bitrate_mode=mode, compression_level=0.5)
    data = path.read_bytes()
    first = data.index(data[:2], 4)
    assert b"Xing" in data[:first] or b"Info" in data[:first]
    path.write_bytes(tag + data[first:])
    return path


def test_an_mp3_that_does_not_count_its_frames(tmp_path: Path) -> None:
    """A picture in front of it makes libsndfile guess too long a time: no reason to refuse."""
    picture = b"ID3\x04\x00\x00\x00\x01\x00\x00" + bytes(16384)
    samples = tone(300, 24000, 4.0)
    path = untagged(tmp_path / "picture.mp3", samples, "CONSTANT", picture)
    assert soundfile.info(path).frames > len(samples) + 12000
    assert abs(len(read_audio(path)) - 4 * SAMPLE_RATE) < 0.1 * SAMPLE_RATE
    data = path.read_bytes()
    path.write_bytes(data + b"TAG" + bytes(125))  # another tag, behind it
    assert abs(len(read_audio(path)) - 4 * SAMPLE_RATE) < 0.1 * SAMPLE_RATE
    path.write_bytes(data[: len(data) // 2 + 8192])
    with pytest.raises(AudioError, match=r"picture\.mp3: it is cut short after 2\.\d\d s"):
        read_audio(path)


def test_an_mp3_whose_end_cannot_be_decoded(tmp_path: Path) -> None:
    """A loud beginning of a varying bit rate makes libsndfile stop long before the end."""
    quiet = np.zeros(72000, np.float32)
    loud = np.random.default_rng(0).normal(0, 0.3, 72000).astype(np.float32)
    path = untagged(tmp_path / "loud.mp3", np.concatenate([loud, quiet]), "VARIABLE")
    assert soundfile.info(path).frames < 100_000
    with pytest.raises(AudioError, match="only a part of it can be decoded"):
        read_audio(path)
    path = untagged(tmp_path / "quiet.mp3", np.concatenate([quiet, loud]), "VARIABLE")
    assert soundfile.info(path).frames > 200_000
    assert abs(len(read_audio(path)) - 6 * SAMPLE_RATE) < 0.1 * SAMPLE_RATE


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_frames_of_an_mp3_are_counted(tmp_path: Path, rate: int, channels: int) -> None:
    samples = np.stack([tone(300, rate, 3.0)] * channels, axis=1)
    soundfile.write(tmp_path / "tone.mp3", samples, rate, format="MP3")
    data = (tmp_path / "tone.mp3").read_bytes()
    length = mp3_length(data)
    assert length.counted and not length.cut
    # The count itself, the encoder's delay and the padding of the last frame come on top.
    assert 0 <= length.samples - 3 * rate <= 5 * 1152
    shorter = mp3_length(data[:-1])
    assert shorter.cut and 0 < length.samples - shorter.samples <= 1152
    assert mp3_length(b"") == mp3_length(bytes(100)) == Mp3Length(False, 0, False)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0])
def test_a_wav_from_a_pipe_has_no_size(tmp_path: Path, size: int) -> None:
    path = encode(tmp_path / "piped.wav", tone(300, SAMPLE_RATE), 16000)
    data = bytearray(path.read_bytes())
    data[4:8] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert len(read_audio(path)) == SAMPLE_RATE


def test_what_is_no_audio_is_refused(tmp_path: Path) -> None:
    def refused(name: str, content: bytes | None) -> str:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(AudioError) as error:
            read_audio(path)
        return str(error.value).removeprefix(f"{path}: ")

    noise = np.random.default_rng(0).bytes(20_000)
    for name in ("noise.wav", "noise.mp3", "noise.flac", "noise.raw", "noise"):
        assert refused(name, noise).startswith("it cannot be decoded ("), name
    assert refused("zeros.mp3", bytes(20_000)).startswith("it cannot be decoded (")
    assert refused("text.wav", b"not found " * 50).startswith("it cannot be decoded (")
    assert refused("gone.wav", None).startswith("there is no such file;")
    (tmp_path / "folder.wav").mkdir()
    assert refused("folder.wav", None).startswith("it is no regular file;")
    os.mkfifo(tmp_path / "pipe.wav")
    assert refused("pipe.wav", None).startswith("it is no regular file;")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    assert refused("zero.wav", None).startswith("it is no regular file;")


def test_what_is_empty_is_refused(tmp_path: Path) -> None:
    for suffix in ("wav", "flac"):
        path = tmp_path / f"empty.{suffix}"
        soundfile.write(path, np.zeros(0, np.float32), 16000)
        with pytest.raises(AudioError, match="it has no samples|cannot be decoded"):
            read_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = tone(300, 16000)
    samples[100] = value
    soundfile.write(tmp_path / "bad.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="no numbers"):
        read_audio(tmp_path / "bad.wav")


def test_absurd_rates_and_lengths_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "slow.wav"
    soundfile.write(path, tone(30, 1000), 1000)
    with pytest.raises(AudioError, match="1000 Hz is no rate of speech"):
        read_audio(path)
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(8000 * 601, np.int16), 8000)
    with pytest.raises(AudioError, match="unknown or over 600 s"):
        read_audio(path)


def test_flac_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "speech.flac"
    spoken = speak("aquí", "es")
    write_flac(path, spoken)
    np.testing.assert_allclose(read_audio(path), spoken, atol=1 / 32768)
    write_flac(path, np.array([2.0, -2.0, 0.5], np.float32))
    np.testing.assert_allclose(read_audio(path), [1.0, -1.0, 0.5], atol=1 / 32768)
    assert [p.name for p in path.parent.iterdir()] == ["speech.flac"]
