"""PocketSphinx: a small recogniser that is fitted to a corpus.

It ships its acoustic model in its wheel and takes its language model from the corpus' training
text, so it transcribes only words of that text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raystt.recognition.protocols import PROTOCOLS, AsrProtocol, normalise
from raystt.recognition.recognizer import RecognizerError, audible
from raystt.speech import SAMPLE_RATE

_FEW_WORDS = 500  # of a vocabulary
_PAD = 1e-3 * np.random.default_rng(0).standard_normal(SAMPLE_RATE // 10)
"""Faint noise before and behind the audio: a word at its very end would be missed otherwise."""


class PocketSphinx:
    """PocketSphinx with its own acoustic model (en-us) and a trigram of the training text."""

    protocol: ClassVar[AsrProtocol] = PROTOCOLS["pocketsphinx"]
    normaliser: ClassVar[str] = protocol.normaliser

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
        return cls(decoder, f"pocketsphinx-{release}-en-us-fresh-trigram-{card['text']}")

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
        texts = [""] * len(waveforms)
        for index in audible(waveforms):
            texts[index] = self._transcribe(waveforms[index])
        return texts

    def normalise(self, text: str) -> str:
        """Lower-case, and drop all but letters and digits."""
        return normalise(text, self.normaliser)

    def _transcribe(self, waveform: np.ndarray) -> str:
        padded = np.concatenate([_PAD, waveform, _PAD])
        samples = np.clip(np.round(padded * 32767.0), -32768, 32767).astype("<i2")
        # The decoder keeps the mean of the cepstrum and the best Gaussians of what it heard last:
        # one text in six would depend on what was transcribed before.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else " ".join(hypothesis.hypstr.split())


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
