"""Forced alignment of words to audio by a CTC model, and the paper's control without one.

`ctc` takes a CTC model of transformers with its own tokenizer, `mms_fa` the aligner of the MMS
project as torchaudio ships it, `equal` gives every word the same share of the audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torchaudio.pipelines import MMS_FA
from transformers import AutoModelForCTC, AutoTokenizer

from raystt.hub import pinned
from raystt.speech import SAMPLE_RATE
from raystt.speech.alignment import AlignmentError, Marks
from raystt.speech.emission import Alphabet, marks
from raystt.speech.network import (
    MAX_BATCH_SECONDS,
    SpeechNetwork,
    checked_layer,
    in_batches,
    read_config,
)

_MMS_FRAME, _MMS_SHORTEST = 320, 400  # samples; of the convolutions of the bundle's model


class Aligner(Protocol):
    """What finds the starts of words."""

    def words(self, waveforms: Sequence[np.ndarray], texts: Sequence[str]) -> list[Marks | None]:
        """Find where words start.

        Args:
            waveforms: float32 [samples] each.
            texts: their transcripts; words stand between white space.

        Returns:
            For each, (word index, start in seconds) of the words that the aligner can spell; the
            others have no mark, and `raystt.speech.alignment.align` lets them join a neighbour.
            None where no word can be spelled or there is too little audio for the text.
        """
        ...


class CtcAligner:
    """Forced alignment by a CTC model of transformers; see `Aligner`.

    Args:
        model: directory or hub name of the model with its tokenizer and feature extractor.
        language: language of the texts.
        device: where the network runs.

    Raises:
        EncoderError: the model cannot be loaded or has no CTC head.
        AlignmentError: its tokenizer cannot be loaded or does not spell by letters.
    """

    def __init__(self, model: str | Path, language: str, *, device: str = "cpu") -> None:
        self._network = _ctc_network(str(model), device)
        self._alphabet = _alphabet(model, self._network.model.config.vocab_size, language)

    def words(self, waveforms: Sequence[np.ndarray], texts: Sequence[str]) -> list[Marks | None]:
        """Find where words start; see `Aligner`."""
        return self.marks(self._network.frames(waveforms, _log_probabilities), texts)

    def marks(self, emissions: Sequence[np.ndarray], texts: Sequence[str]) -> list[Marks | None]:
        """Find where words start in what the network said of waveforms.

        Args:
            emissions: float32 [frames, labels] each, log probabilities.
            texts: as of `Aligner.words`, and so what is returned.
        """
        return [
            marks(emission, text, self._alphabet, self._network.frame_seconds)
            for emission, text in zip(emissions, texts, strict=True)
        ]


class CtcEncoder:
    """A CTC model that is encoder and aligner at once, so that one pass serves both.

    Args:
        model: directory or hub name of the model, see `is_encoder`; `CtcAligner`s of it share its
            network.
        layer: index of `hidden_states`, as of `raystt.speech.encoders.TransformersEncoder`, whose
            features are the same; None = the last.
        device: where the network runs.

    Raises:
        EncoderError: the model cannot be loaded, has no CTC head, or no such layer.
    """

    def __init__(self, model: str | Path, layer: int | None, *, device: str = "cpu") -> None:
        self._network = _ctc_network(str(model), device)
        self._layer = checked_layer(model, self._network.model.config, layer)
        self._dimension = int(self._network.model.config.hidden_size)

    def hear(self, waveforms: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Encode waveforms, float32 [samples] each.

        Returns:
            Features, float32 [frames, dimension] each; log probabilities, float32 [frames, labels]
            each.
        """
        both = self._network.frames(waveforms, self._both)
        return (
            [frames[:, : self._dimension] for frames in both],
            [frames[:, self._dimension :].copy() for frames in both],
        )

    def _both(self, network: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        found = network(**inputs, output_hidden_states=True)
        return torch.cat(
            [found.hidden_states[self._layer], F.log_softmax(found.logits, dim=-1)], dim=-1
        )


class MmsAligner:
    """Forced alignment by torchaudio's bundle MMS_FA, for 1100 languages; see `Aligner`.

    torchaudio downloads its weights (1.2 GB, CC-BY-NC 4.0) when they are first used.
    """

    def __init__(self, language: str, *, device: str = "cpu") -> None:
        self._model = _mms_network(device)
        self._device = device
        labels = MMS_FA.get_dict(star=None)
        blank = labels.pop("-")
        self._alphabet = Alphabet(labels, blank, None, language)

    def words(self, waveforms: Sequence[np.ndarray], texts: Sequence[str]) -> list[Marks | None]:
        """Find where words start; see `Aligner`."""
        emissions = in_batches(
            waveforms,
            self._emissions,
            shortest=_MMS_SHORTEST,
            mixed=True,
            most=int(MAX_BATCH_SECONDS * SAMPLE_RATE),
        )
        return [
            marks(emission, text, self._alphabet, _MMS_FRAME / SAMPLE_RATE)
            for emission, text in zip(emissions, texts, strict=True)
        ]

    def _emissions(self, batch: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        # The bundle's wrapper normalises a batch as a whole, which makes batch mates matter; the
        # network within is the same with each waveform normalised on its own.
        waves = [torch.from_numpy(waveform).to(self._device) for waveform in batch]
        normal = [F.layer_norm(wave, wave.shape) for wave in waves]
        lengths = torch.tensor([len(wave) for wave in waves], device=self._device)
        padded = torch.nn.utils.rnn.pad_sequence(normal, batch_first=True)
        logits, counts = self._model(padded, lengths)
        return F.log_softmax(logits, dim=-1), counts


class EqualAligner:
    """Word i of N starts at i/N of the audio: the paper's control without alignment."""

    def words(self, waveforms: Sequence[np.ndarray], texts: Sequence[str]) -> list[Marks | None]:
        """Cut each waveform into equal parts; see `Aligner`."""
        found: list[Marks | None] = []
        for waveform, text in zip(waveforms, texts, strict=True):
            count, seconds = len(text.split()), len(waveform) / SAMPLE_RATE
            found.append(tuple((i, i / count * seconds) for i in range(count)) or None)
        return found


def aligner(
    method: str, model: str | Path | None, *, language: str, device: str = "cpu"
) -> Aligner:
    """Load an aligner by name.

    Args:
        method: `ctc`, `mms_fa` or `equal`.
        model: of `ctc`.
        language: language of the texts.
        device: where its network runs. Aligners of several languages share one network.

    Raises:
        EncoderError: the model cannot be loaded.
        AlignmentError: the method has no aligner, no model, or one that does not spell by letters.
    """
    if method == "mms_fa":
        return MmsAligner(language, device=device)
    if method == "equal":
        return EqualAligner()
    if method != "ctc":
        raise AlignmentError(f"alignment.method {method}: choose from: ctc, mms_fa, equal")
    if model is None:
        raise AlignmentError("alignment.model: `method: ctc` needs a CTC model; name one")
    return CtcAligner(model, language, device=device)


def is_encoder(model: str | Path) -> bool:
    """Whether labels of a CTC model are of the frames of its hidden layers: it has no adapter.

    Raises:
        EncoderError: its config cannot be read.
    """
    return not getattr(read_config(model), "add_adapter", False)


def _log_probabilities(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.log_softmax(model(**inputs).logits, dim=-1)


@lru_cache(maxsize=1)
def _ctc_network(model: str, device: str) -> SpeechNetwork:
    return SpeechNetwork(model, AutoModelForCTC, read_config(model), device, MAX_BATCH_SECONDS)


@lru_cache(maxsize=1)
def _mms_network(device: str) -> Any:
    try:
        return MMS_FA.get_model(with_star=False).model.to(device)
    except OSError as error:
        raise AlignmentError(
            f"alignment.method mms_fa: torchaudio cannot download its weights ({error}); copy the "
            f"file into {torch.hub.get_dir()}/checkpoints"
        ) from error


def _alphabet(model: str | Path, outputs: int, language: str) -> Alphabet:
    path, revision = pinned(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError, KeyError, TypeError) as error:  # TypeError: without its files
        raise AlignmentError(
            f"{model}: its tokenizer cannot be loaded ({error}); name a CTC model with one"
        ) from error
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    delimiter = vocabulary.get(getattr(tokenizer, "word_delimiter_token", None) or " ")
    special = {*tokenizer.all_special_ids, tokenizer.pad_token_id, delimiter}
    labels = {t: i for t, i in vocabulary.items() if i not in special and i < outputs}
    letters = {t: i for t, i in labels.items() if len(t) == 1}
    if tokenizer.pad_token_id is None or 2 * len(letters) <= len(labels):
        raise AlignmentError(
            f"{model}: {len(letters)} of its {len(labels)} labels are single letters; forced "
            "alignment needs a CTC model that spells by letters"
        )
    return Alphabet(letters, tokenizer.pad_token_id, delimiter, language)
