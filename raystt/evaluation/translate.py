"""Translate one recording: speech in, speech out, with what was written and heard on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from raystt.config import RunConfig
from raystt.corpus.card import Card
from raystt.corpus.shards import Row, RowSide, table_of
from raystt.errors import BadInput
from raystt.evaluation.generate import generate
from raystt.evaluation.jobs import EvaluationJob
from raystt.evaluation.judge import Judge
from raystt.files import replacing
from raystt.speech import SAMPLE_RATE
from raystt.speech.audio import read_audio
from raystt.speech.encoders import encoder
from raystt.speech.units import Codebook, deduplicate
from raystt.training.device import device_of

FORMATS = ("wav", "flac", "mp3", "ogg")


class OutputError(BadInput):
    """A translation cannot be written there; the text says why."""


def check_output(path: str | os.PathLike[str]) -> None:
    """Refuse a place where a translation cannot be written, before it is made.

    Raises:
        OutputError: The ending is none of `FORMATS`, or there is no such directory.
    """
    if _ending(path) not in FORMATS:
        raise OutputError(f"{path}: end the name of the output in .{', .'.join(FORMATS)}")
    if not Path(path).absolute().parent.is_dir():
        raise OutputError(f"{path}: there is no directory {Path(path).absolute().parent}; make it")


def _ending(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.removeprefix(".").lower()


@dataclass(frozen=True, eq=False)
class Translation:
    """A translated recording.

    Attributes:
        waveform: float32 `[samples]` of the translation, full scale 1.
        rate: Its sample rate, in Hz.
        heard: What the recogniser heard of it, normalised.
        source_text: The transcript that the model wrote first in chain of thought; None in the
            direct format.
        target_text: Its translation, likewise.
        truncated: Whether the model did not end by itself within `evaluation.max_new_tokens`.
    """

    waveform: np.ndarray
    rate: int
    heard: str
    source_text: str | None
    target_text: str | None
    truncated: bool

    @property
    def seconds(self) -> float:
        """Length of the translation."""
        return len(self.waveform) / self.rate

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the waveform, in the format of the ending: one of `FORMATS`.

        Raises:
            OutputError: See `check_output`.
        """
        check_output(path)
        # Where nothing was said, a moment of silence: a file without a sample is none to players.
        waveform = self.waveform if len(self.waveform) else np.zeros(self.rate // 10, np.float32)
        with replacing(path) as temporary, temporary.open("wb") as file:
            soundfile.write(file, waveform, self.rate, format=_ending(path).upper())


class Translator:
    """A model of a run with what it needs to hear and to speak, loaded once.

    Args:
        run: The run that the model was trained by.
        corpus: Directory of its prepared corpus: codebooks, vocoder and recogniser are there.
        model: Directory of the model.
        device: Where everything runs, "cpu" or "cuda".

    Raises:
        BadInput: One of them cannot be loaded, or does not fit the corpus.
    """

    def __init__(self, run: RunConfig, corpus: Path, model: Path, *, device: str) -> None:
        self._judge = Judge(corpus, run.evaluation, device=device)
        card = self._judge.card
        units = run.corpus.units
        self._encoder = encoder(
            units.encoder, units.layer, device=device,
            finetuned=corpus / "encoder" if run.corpus.finetune else None,
        )  # fmt: skip
        self._codebook = Codebook.load(corpus / card.units.source.path)
        self._card: Card = card
        self._device = device
        self._job = EvaluationJob(
            str(model), run.language, run.evaluation.split, run.evaluation, run.interleaving
        )

    def translate(self, audio: str | os.PathLike[str]) -> Translation:
        """Translate a recording of any rate, format and number of channels.

        Raises:
            AudioError: It is no usable audio.
            ModelError: It is too long for the model.
        """
        waveform = read_audio(audio)
        (features,) = self._encoder.features([waveform])
        units = self._codebook.assign(features)
        if self._card.units.deduplicated:
            units, _ = deduplicate(units)
        units = units + self._card.units.source.offset
        # All of it as one word of speech without a text.
        source = RowSide("", [], [0, 0], units, np.ones_like(units), [0, len(units)],
                         len(waveform) / SAMPLE_RATE)  # fmt: skip
        nothing = RowSide("", [], [0], [], [], [0], 0.0)
        rows = table_of([Row(os.fspath(audio), self._job.language, "", source, nothing)])
        (generated,) = generate(rows, self._job, self._card, device=self._device)
        _, (said,) = self._judge.speak([generated])
        wrote = self._judge.written([generated])
        (heard,) = self._judge.hear([said])
        return Translation(
            waveform=said, rate=self._card.sample_rate, heard=heard,
            source_text=wrote["source"][0] if wrote else None,
            target_text=wrote["target"][0] if wrote else None,
            truncated=not generated.ended,
        )  # fmt: skip


def translate_recording(run: RunConfig, model: Path, audio: str | os.PathLike[str]) -> Translation:
    """Translate a recording with a model of a run, on the run's own corpus and device."""
    device = device_of(run.resources.gpus_per_evaluator, "gpus_per_evaluator")
    return Translator(run, Path(run.corpus.path).resolve(), model, device=device).translate(audio)
