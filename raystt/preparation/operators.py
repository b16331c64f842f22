"""The operators of the pipeline: decode a part, encode and align it, write it.

Encoders and aligners live in actors; everything else is a task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import SIDES, UnitsCard
from raystt.errors import PrepareError
from raystt.files import replacing
from raystt.preparation.merge import write_part
from raystt.preparation.models import finetuned
from raystt.preparation.rows import Heard, RowError, row
from raystt.readers.utterance import Quarantined, Utterance, audio_path
from raystt.speech import SAMPLE_RATE
from raystt.speech.alignment import AlignmentError
from raystt.training.device import device_of

Hear = Callable[[Sequence[np.ndarray]], tuple[list[np.ndarray], list[np.ndarray] | None]]
"""Waveforms to features, and to the log probabilities of an aligner that is the same network."""

LISTENED = ("dev", "test")
"""Splits whose audio is kept as FLAC: to listen to, and for the ceiling of the scores."""


@dataclass(frozen=True)
class Piece:
    """A part on its way.

    Attributes:
        path: file that it becomes.
        utterances: those that are still in it.
        waveforms: by side, float32 [samples] of each utterance.
        quarantined: those that are not.
        heard: by utterance, both sides.
    """

    path: str
    utterances: tuple[Utterance, ...]
    waveforms: dict[str, list[np.ndarray]] | None = None
    quarantined: tuple[Quarantined, ...] = ()
    heard: tuple[dict[str, Heard], ...] = ()


class Decoder:
    """Read the audio of a part and set aside what is no speech."""

    def __init__(self, config: CorpusConfig) -> None:
        self._quality = config.quality

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        from raystt.preparation.quality import judge_audio
        from raystt.speech.audio import AudioError, read_audio

        piece: Piece = item["piece"]
        kept: list[Utterance] = []
        waveforms: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        refused: list[Quarantined] = []
        for utterance in piece.utterances:
            sides: dict[str, np.ndarray] = {}
            for side in SIDES:
                recording = getattr(utterance, side)
                try:
                    sides[side] = read_audio(recording.audio)
                    reason = judge_audio(sides[side], recording.text, self._quality)
                except AudioError as error:
                    reason = str(error)
                if reason is not None:
                    refused.append(_refuse(utterance, f"{side}: {reason}", recording.audio))
                    break
            else:
                kept.append(utterance)
                for side in SIDES:
                    waveforms[side].append(sides[side])
        done = replace(
            piece, utterances=tuple(kept), waveforms=waveforms, quarantined=tuple(refused)
        )
        return {"piece": done}


class Listener:
    """Actor with encoder, codebooks and aligner: waveforms to frames and word marks."""

    def __init__(
        self, corpus: Path, config: CorpusConfig, units: UnitsCard, resources: ResourcesConfig
    ) -> None:
        from raystt.speech.units import Codebook

        self._config = config
        self._device = _device(resources)
        self._aligns = config.alignment.model or finetuned(corpus, config)
        self._hear = _hear(corpus, config, self._aligns, self._device)
        self._books = {
            side: Codebook.load(corpus / getattr(units, side).path).to(self._device)
            for side in SIDES
        }
        self._target = config.target
        self._aligners: dict[str, Any] = {}

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        piece: Piece = item["piece"]
        assert piece.waveforms is not None
        heard: list[dict[str, Heard]] = [{} for _ in piece.utterances]
        for side in SIDES:
            waveforms = piece.waveforms[side]
            features, emissions = self._hear(waveforms)
            marks = self._marks(side, piece.utterances, waveforms, emissions)
            for index, (frames, waveform) in enumerate(zip(features, waveforms, strict=True)):
                heard[index][side] = Heard(
                    self._books[side].assign(frames), marks[index], len(waveform) / SAMPLE_RATE
                )
        listened = bool(piece.utterances) and piece.utterances[0].split in LISTENED
        kept = piece.waveforms if listened else None
        return {"piece": replace(piece, waveforms=kept, heard=tuple(heard))}

    def _marks(
        self,
        side: str,
        utterances: Sequence[Utterance],
        waveforms: Sequence[np.ndarray],
        emissions: Sequence[np.ndarray] | None,
    ) -> list[Any]:
        if self._config.alignment.method == "marks":
            return [getattr(utterance, side).marks for utterance in utterances]
        texts = [getattr(utterance, side).text for utterance in utterances]
        spoken = [index for index, text in enumerate(texts) if text]
        marks: list[Any] = [None] * len(texts)
        if spoken:
            language = self._target if side == "target" else utterances[0].language
            if language not in self._aligners:
                from raystt.speech.ctc import aligner

                self._aligners[language] = aligner(
                    self._config.alignment.method, self._aligns,
                    language=language, device=self._device,
                )  # fmt: skip
            align = self._aligners[language]
            find, heard = (
                (align.words, waveforms) if emissions is None else (align.marks, emissions)
            )
            found = find([heard[index] for index in spoken], [texts[index] for index in spoken])
            for index, words in zip(spoken, found, strict=True):
                marks[index] = words
        return marks


class Featurizer:
    """Actor with the encoder alone: waveforms to features, for k-means."""

    def __init__(self, corpus: Path, config: CorpusConfig, resources: ResourcesConfig) -> None:
        self._encoder = _encoder(corpus, config, _device(resources))

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        piece: Piece = item["piece"]
        assert piece.waveforms is not None
        arrays: dict[str, Any] = {}
        for side in SIDES:
            features = self._encoder.features(piece.waveforms[side])
            none = np.zeros((0, self._encoder.dimension), np.float32)
            arrays[side] = np.concatenate([none, *features])
        with replacing(Path(piece.path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        return {"path": piece.path}


class Writer:
    """Tokenise the texts of a part and write its rows."""

    def __init__(self, corpus: Path, units: UnitsCard) -> None:
        self._corpus, self._units = corpus, units

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        from raystt.speech.audio import write_flac

        piece: Piece = item["piece"]
        tokenizer = _tokenizer(self._corpus)
        rows, refused = [], list(piece.quarantined)
        for index, (utterance, heard) in enumerate(zip(piece.utterances, piece.heard, strict=True)):
            try:
                rows.append(row(utterance, heard, tokenizer, self._units))
            except (RowError, AlignmentError, PrepareError) as error:
                refused.append(_refuse(utterance, str(error), utterance.target.audio))
                continue
            if piece.waveforms is not None:
                for side in SIDES:
                    path = audio_path(
                        self._corpus, utterance.language, utterance.split, utterance.id, side
                    )
                    write_flac(path, piece.waveforms[side][index])
        write_part(Path(piece.path), rows, refused)
        return {"path": piece.path}


def _device(resources: ResourcesConfig) -> str:
    """Return the device of an actor that encodes, with its threads set."""
    import torch

    torch.set_num_threads(resources.threads_per_worker)
    return device_of(resources.gpus_per_encoder, "gpus_per_encoder")


def _hear(corpus: Path, config: CorpusConfig, aligns: Path | str | None, device: str) -> Hear:
    """Load the encoder, which may be the network that aligns: then one pass serves both."""
    encodes = finetuned(corpus, config) or config.units.encoder
    if config.alignment.method == "ctc" and str(encodes) == str(aligns):
        from raystt.speech.ctc import CtcEncoder, is_encoder

        if is_encoder(encodes):
            return CtcEncoder(encodes, config.units.layer, device=device).hear
    encoder = _encoder(corpus, config, device)
    return lambda waveforms: (encoder.features(waveforms), None)


def _encoder(corpus: Path, config: CorpusConfig, device: str) -> Any:
    from raystt.speech.encoders import encoder

    units = config.units
    weights = finetuned(corpus, config)
    return encoder(units.encoder, units.layer, finetuned=weights, device=device)


@cache
def _tokenizer(corpus: Path) -> Any:
    from raystt.preparation.tokenizer import TextTokenizer

    return TextTokenizer(corpus / "tokenizer")


def _refuse(utterance: Utterance, reason: str, place: str) -> Quarantined:
    return Quarantined(utterance.language, utterance.split, utterance.id, place, reason)
