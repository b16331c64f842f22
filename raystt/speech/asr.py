"""Recognisers: waveforms to the words that ASR-BLEU is computed on.

A recogniser is looked up by name in `RECOGNIZERS`, built once for a corpus and loaded by every
evaluator. "pocketsphinx" is small, ships its acoustic model in its wheel and takes its language
model from the corpus' training text, so it transcribes only words of that text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from raystt.errors import BadInput
from raystt.speech import SAMPLE_RATE

SHORTEST = 0.1
"""Seconds; shorter audio is transcribed as nothing."""

SILENCE = 3e-3
"""Loudest root mean square over 50 ms (full scale 1) of audio that holds no speech."""


_FEW_WORDS = 500  # of a vocabulary
_PAD = 1e-3 * np.random.default_rng(0).standard_normal(SAMPLE_RATE // 10)
"""Faint noise before and behind the audio: a word at its very end would be missed otherwise."""


class RecognizerError(BadInput):
    """A recogniser cannot be built, found or used; the message names the place and the fix."""


class Recognizer(Protocol):
    """What an entry of `RECOGNIZERS` offers."""

    @classmethod
    def build(cls, sentences: Iterable[str], directory: str | Path) -> Recognizer:
        """Make a recogniser of the domain of `sentences` (training text) and keep it on disk."""
        ...

    @classmethod
    def load(cls, directory: str | Path) -> Recognizer:
        """Load what `build` kept."""
        ...

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe float32 `[samples]` at 16 kHz each; a text depends on its audio alone."""
        ...

    @property
    def signature(self) -> str:
        """Name all that a transcript depends on besides the audio."""
        ...


class PocketSphinx:
    """PocketSphinx with its own acoustic model (en-us) and a trigram of the training text."""

    _FILES: ClassVar[dict[str, str]] = {"lm": "trigram.lm", "dict": "words.dict"}
    _CARD: ClassVar[str] = "asr.json"

    def __init__(self, decoder: Any, signature: str) -> None:
        """Wrap a configured `pocketsphinx.Decoder`; use `build` or `load` instead."""
        self._decoder = decoder
        self._signature = signature

    @classmethod
    def build(cls, sentences: Iterable[str], directory: str | Path) -> PocketSphinx:
        """Write the language model and dictionary of `sentences` to `directory` and load them.

        Args:
            sentences: training text in spoken form: words without digits or punctuation.
            directory: made if needed; files of an earlier build are replaced.

        Raises:
            RecognizerError: pocketsphinx is missing, there is no text, or words have no
                pronunciation in its dictionary.
        """
        sphinx = _import()
        from pocketsphinx.lm import ArpaBoLM

        lines = [" ".join(sentence.lower().split()) for sentence in sentences]
        words = sorted({word for line in lines for word in line.split()})
        if not words:
            raise RecognizerError(
                "no training text for the trigram of pocketsphinx; give at least one sentence"
            )
        pronunciations = _pronunciations(Path(sphinx.get_model_path("en-us/cmudict-en-us.dict")))
        missing = [word for word in words if word not in pronunciations]
        if missing:
            raise RecognizerError(
                f"pocketsphinx has no pronunciation of {', '.join(map(repr, missing))} in its "
                "dictionary of US English; write digits and abbreviations out and drop "
                "punctuation, or leave the sentences with these words out"
            )
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / cls._FILES["dict"]).write_text(
            "".join(entry for word in words for entry in pronunciations[word])
        )
        model = ArpaBoLM(text="\n".join(lines), add_start=True)
        model.compute()
        with (folder / cls._FILES["lm"]).open("w") as file:
            model.write(file)
        digest = hashlib.blake2b("\n".join(lines).encode(), digest_size=4).hexdigest()
        card = {"recognizer": "pocketsphinx", "text": digest, "words": len(words)}
        (folder / cls._CARD).write_text(json.dumps(card, indent=1) + "\n")
        return cls.load(folder)

    @classmethod
    def load(cls, directory: str | Path) -> PocketSphinx:
        """Load what `build` wrote to `directory`.

        Raises:
            RecognizerError: pocketsphinx or a file is missing.
        """
        sphinx = _import()
        folder = Path(directory)
        for name in (cls._CARD, *cls._FILES.values()):
            if not (folder / name).is_file():
                raise RecognizerError(
                    f"{folder / name} is missing; build the recogniser again with: raystt prepare"
                )
        card = json.loads((folder / cls._CARD).read_text())
        decoder = sphinx.Decoder(
            hmm=sphinx.get_model_path("en-us/en-us"),
            **{option: str(folder / name) for option, name in cls._FILES.items()},
            samprate=SAMPLE_RATE,
            # The first pass only narrows the words down; without it few words are searched as well
            # in 0.7 of the time, many take longer.
            fwdtree=card["words"] > _FEW_WORDS,
            loglevel="FATAL",
        )
        release = version("pocketsphinx")
        return cls(decoder, f"pocketsphinx-{release}-en-us-trigram-{card['text']}")

    @property
    def signature(self) -> str:
        """Name release, acoustic model, and the training text (by a hash of it)."""
        return self._signature

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe one by one; audio that is too short or silent gives "".

        Args:
            waveforms: float32 `[samples]` each, mono, 16 kHz, full scale 1.

        Raises:
            RecognizerError: a waveform is not one channel of finite samples.
        """
        return [self._transcribe(index, waveform) for index, waveform in enumerate(waveforms)]

    def _transcribe(self, index: int, waveform: np.ndarray) -> str:
        if waveform.ndim != 1 or not np.isfinite(waveform).all():
            raise RecognizerError(
                f"waveform {index} of shape {list(waveform.shape)} is not one channel of finite "
                "samples; pass mono float32 audio"
            )
        if len(waveform) < SHORTEST * SAMPLE_RATE or _loudness(waveform) < SILENCE:
            return ""
        padded = np.concatenate([_PAD, waveform, _PAD])
        samples = np.clip(np.round(padded * 32767.0), -32768, 32767).astype("<i2")
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else " ".join(hypothesis.hypstr.split())


RECOGNIZERS: dict[str, type[Recognizer]] = {"pocketsphinx": PocketSphinx}


def recognizer(name: str) -> type[Recognizer]:
    """Look a recogniser up.

    Raises:
        RecognizerError: there is none of that name.
    """
    if name not in RECOGNIZERS:
        raise RecognizerError(
            f"recogniser {name!r} is unknown; take one of: {', '.join(sorted(RECOGNIZERS))}"
        )
    return RECOGNIZERS[name]


def _import() -> Any:
    try:
        import pocketsphinx
    except ImportError as error:
        raise RecognizerError(
            "the recogniser 'pocketsphinx' needs the package 'pocketsphinx', which is not "
            "installed; install it with: pip install 'raystt[demo]'"
        ) from error
    return pocketsphinx


def _pronunciations(path: Path) -> dict[str, list[str]]:
    """Read a Sphinx dictionary: word -> its lines, alternatives `word(2)` included."""
    entries: dict[str, list[str]] = {}
    with path.open() as file:
        for line in file:
            word = re.sub(r"\(\d+\)$", "", line.split(maxsplit=1)[0])
            entries.setdefault(word, []).append(line)
    return entries


def _loudness(waveform: np.ndarray) -> float:
    """Return the largest root mean square over windows of 50 ms."""
    window = SAMPLE_RATE // 20
    power = np.square(waveform[: len(waveform) // window * window].astype(np.float64))
    return float(np.sqrt(power.reshape(-1, window).mean(axis=1).max()))
