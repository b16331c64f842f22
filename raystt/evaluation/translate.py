"""Translate one recording: speech in, speech out, with what was written and heard on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from raystt import remote
from raystt.config import RunConfig
from raystt.corpus.rows import Row, RowSide, table_of
from raystt.errors import BadInput
from raystt.evaluation.generate import Generated, generate
from raystt.evaluation.jobs import EvaluationJob
from raystt.evaluation.judge import Judge
from raystt.files import replacing
from raystt.speech import SAMPLE_RATE
from raystt.speech.audio import read_audio
from raystt.speech.encoders import encoder
from raystt.speech.units import Codebook, deduplicate
from raystt.training.device import device_here

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


def translate_recording(run: RunConfig, model: Path, audio: str | os.PathLike[str]) -> Translation:
    """Translate a recording of any rate, format and number of channels.

    Args:
        run: The run that the model was trained by; codebooks, vocoder and recogniser are those of
            its prepared corpus.
        model: Directory of the model.
        audio: The recording.

    Raises:
        AudioError: It is no usable audio.
        ModelError: It is too long for the model.
        BadInput: A part of the corpus cannot be loaded.
    """
    waveform = read_audio(audio)
    corpus = remote.local(run.corpus.path)
    device = device_here(run.resources.gpus_per_evaluator, run.resources.auto)
    judge = Judge(corpus, run.evaluation.model_copy(update={"utmos": None}), device=device)
    generated = _generate(run, judge, model, waveform, device)
    _, (said,) = judge.speak([generated])
    (heard,) = judge.hear([said])
    wrote = {side: texts[0] for side, texts in judge.written([generated]).items()}
    return Translation(
        waveform=said, rate=judge.card.sample_rate, heard=heard, source_text=wrote.get("source"),
        target_text=wrote.get("target"), truncated=not generated.ended,
    )  # fmt: skip


def _generate(
    run: RunConfig, judge: Judge, model: Path, waveform: np.ndarray, device: str
) -> Generated:
    """Encode float32 `[samples]` as the source units of the corpus, and generate from them."""
    config, card = run.corpus.units, judge.card
    finetuned = judge.corpus / "encoder" if run.corpus.finetune else None
    hears = encoder(config.encoder, config.layer, finetuned=finetuned, device=device)
    codebook = Codebook.load(judge.corpus / card.units.source.path)
    units = codebook.assign(hears.features([waveform])[0])
    if card.units.deduplicated:
        units, _ = deduplicate(units)
    units = units + card.units.source.offset
    # All of it as one word of speech without a text.
    source = RowSide("", [], [0, 0], units, np.ones_like(units), [0, len(units)],
                     len(waveform) / SAMPLE_RATE)  # fmt: skip
    nothing = RowSide("", [], [0], [], [], [0], 0.0)
    rows = table_of([Row("", run.language, "", source, nothing)])
    job = EvaluationJob(
        str(model), run.language, run.evaluation.split, run.evaluation, run.interleaving
    )
    (generated,) = generate(rows, job, card, device=device)
    return generated
