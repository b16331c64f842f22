"""Text to speech with word marks: eSpeak NG through its C API.

eSpeak NG (GPL-3+) comes with the optional package `espeakng_loader` (`raystt[demo]`) and is loaded
only when something is spoken. Its flutter and noise run on in globals that no call resets, so the
library is loaded anew for every sentence (5 ms), behind a lock: the audio is a pure function of
voice, seed and text, whatever was said before and in whichever process.
"""

from __future__ import annotations

import _ctypes
import ctypes
import hashlib
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from raystt.errors import BadInput
from raystt.speech import SAMPLE_RATE

DITHER = 1e-3
"""Standard deviation of the white noise added to every waveform (full scale is 1)."""

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: hand samples to the callback, return when all is done
_DONT_EXIT = 0x8000  # report missing data as an error code instead of ending the process
_UTF8 = 1  # espeak_Synth: the text is UTF-8, without SSML
_END_LIST, _WORD = 0, 1  # espeak_EVENT_TYPE
_RATE, _PITCH = 1, 3  # espeak_PARAMETER


class SpeechError(BadInput):
    """A text cannot be spoken, or the synthesizer cannot be used; the message names the fix."""


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Voice:
    """A voice of eSpeak NG.

    Attributes:
        language: its name of the language, such as `es`, `fr`, `de` or `en-us`.
        variant: its name of the speaker (a file of `espeak-ng-data/voices/!v`), such as `f2`, or ""
            for the language's own.
        rate: words a minute, 80 to 450.
        pitch: 0 to 100.
    """

    language: str
    variant: str = ""
    rate: int = 175
    pitch: int = 50

    @property
    def name(self) -> str:
        """Name the voice as eSpeak does: `language+variant`."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


@dataclass(frozen=True)
class Speech:
    """A spoken sentence.

    Attributes:
        waveform: float32 `[samples]`, mono, in [-1, 1] up to the dither.
        sample_rate: samples a second (Hz).
        words: (index of the first word, start in seconds) of every run of words that the
            synthesizer marked, both strictly rising; the first index is 0. Words that it fuses
            ("on the") have one mark, at the first of them.
    """

    waveform: np.ndarray
    sample_rate: int
    words: list[tuple[int, float]]


_lock = threading.Lock()


class _Library:
    """eSpeak NG, freshly loaded; leaving the `with` block unloads it and forgets its state."""

    def __init__(self, seed: int) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise SpeechError(
                "text to speech needs the package 'espeakng-loader', which is not installed; "
                "install it with: pip install 'raystt[demo]'"
            ) from error
        path, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        try:
            self._c = ctypes.CDLL(path)
        except OSError as error:
            raise SpeechError(
                f"eSpeak NG cannot be loaded from {path}: {error}; reinstall it with: "
                "pip install --force-reinstall 'raystt[demo]'"
            ) from error
        self._data = Path(data)
        rate = self._c.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DONT_EXIT)
        self.sample_rate = int(rate)
        if self.sample_rate <= 0:
            raise SpeechError(
                f"eSpeak NG does not start with its data at {data}; reinstall it with: "
                "pip install --force-reinstall 'raystt[demo]'"
            )
        self._c.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._callback = _Callback(self._receive)  # kept: the library holds a bare pointer to it
        self._c.espeak_SetSynthCallback(self._callback)
        self._chunks: list[np.ndarray] = []
        self._marks: list[tuple[int, int]] = []

    def __enter__(self) -> _Library:
        return self

    def __exit__(self, *error: object) -> None:
        self._c.espeak_Terminate()
        _ctypes.dlclose(self._c._handle)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_LIST:
            if events[index].type == _WORD:
                self._marks.append((events[index].text_position - 1, events[index].audio_position))
            index += 1
        return 0

    def version(self) -> str:
        """Return the version of the library, such as `1.52.0`."""
        self._c.espeak_Info.restype = ctypes.c_char_p
        return str(self._c.espeak_Info(None).decode().split()[0])

    def select(self, voice: Voice) -> None:
        """Make `voice` the current one.

        Raises:
            SpeechError: eSpeak NG has no such language or variant.
        """
        # The library itself passes over an unknown variant without a word.
        if voice.variant and not (self._data / "voices" / "!v" / voice.variant).is_file():
            raise SpeechError(
                f"eSpeak NG has no variant {voice.variant!r} (voice {voice.name!r}); "
                f"take one of: {_files(self._data / 'voices' / '!v')}"
            )
        if self._c.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise SpeechError(
                f"eSpeak NG has no voice for language {voice.language!r}; "
                f"take one of: {_files(self._data / 'lang').lower()}"
            )
        self._c.espeak_SetParameter(_RATE, voice.rate, 0)
        self._c.espeak_SetParameter(_PITCH, voice.pitch, 0)

    def speak(self, text: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Speak `text`: int16 `[samples]`, and (position in characters, milliseconds) of words."""
        data = text.encode()
        size = ctypes.c_size_t(len(data) + 1)
        code = self._c.espeak_Synth(data, size, 0, 1, 0, _UTF8, None, None)
        if code != 0:
            raise SpeechError(f"eSpeak NG failed with code {code} on {text!r}")
        return np.concatenate([np.zeros(0, np.int16), *self._chunks]), self._marks


def _files(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.rglob("*") if path.is_file()))


class EspeakSynthesizer:
    """Speak sentences with one voice of eSpeak NG."""

    def __init__(self, voice: Voice, seed: int = 0) -> None:
        """Check that the library is there and knows the voice.

        Args:
            voice: who speaks.
            seed: of the dither and of the voice's own noise.

        Raises:
            SpeechError: `espeakng-loader` is missing or broken, or has no such voice.
        """
        self.voice = voice
        self.seed = seed
        with _lock, _Library(seed) as library:
            library.select(voice)
            self._version = library.version()

    @property
    def signature(self) -> str:
        """Name all that the audio of a text depends on."""
        voice = self.voice
        return (
            f"espeak-ng-{self._version}:{voice.name}:rate{voice.rate}:pitch{voice.pitch}"
            f":dither{DITHER:g}:seed{self.seed}"
        )

    def speak(self, text: str) -> Speech:
        """Speak one sentence, always with the same samples.

        Args:
            text: words separated by white space, in the voice's language.

        Raises:
            SpeechError: the text holds nothing that can be spoken.
        """
        words = text.split()
        spoken = " ".join(words)
        with _lock, _Library(self.seed) as library:
            library.select(self.voice)
            samples, marks = library.speak(spoken) if words else (np.zeros(0, np.int16), [])
            rate = library.sample_rate
        if not marks or len(samples) == 0:
            raise SpeechError(
                f"nothing to speak in the text {text!r} (voice {self.voice.name!r}); "
                "drop the sentence or write its words out"
            )
        common = math.gcd(rate, SAMPLE_RATE)
        waveform = resample_poly(
            samples.astype(np.float32) / np.float32(32768.0), SAMPLE_RATE // common, rate // common
        ).astype(np.float32)
        # Exact digital silence breaks recognisers and forced aligners: their features are logs.
        key = hashlib.blake2b(f"{self.signature}\n{spoken}".encode(), digest_size=8).digest()
        noise = np.random.default_rng(int.from_bytes(key, "little"))
        waveform = waveform + DITHER * noise.standard_normal(len(waveform), dtype=np.float32)
        return Speech(waveform, SAMPLE_RATE, _word_starts(words, marks))


def _word_starts(words: list[str], marks: list[tuple[int, int]]) -> list[tuple[int, float]]:
    """Turn (position in characters, milliseconds) into strictly rising (word index, seconds)."""
    ends = np.cumsum([len(word) + 1 for word in words])
    starts: list[tuple[int, float]] = []
    for position, milliseconds in marks:
        index = int(np.searchsorted(ends, position, side="right"))
        seconds = milliseconds / 1000.0
        if not starts:
            starts.append((0, seconds))
        elif index < len(words) and index > starts[-1][0] and seconds > starts[-1][1]:
            starts.append((index, seconds))
    return starts
