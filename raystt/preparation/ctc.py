"""CTC of a transformers speech encoder on characters: processor, model, batches, error rate.

The library's own classes and loss; what is spelled of a text says `raystt.speech.spelling`.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from torchaudio.functional import edit_distance
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertProcessor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2Processor,
)

from raystt.errors import BadInput
from raystt.hub import pinned
from raystt.speech import SAMPLE_RATE
from raystt.speech.audio import AudioError, read_audio
from raystt.speech.network import frame_length, read_config
from raystt.speech.spelling import spelling

PAD, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"
MICRO_BATCH_SECONDS = 80.0
"""Audio that goes through the model at a time, padding included; one utterance more at most."""

_BORDER = 2  # frames, at most, that convolutions without padding lose

# Utterances of like length share a batch, so that little of it is padding; a window this wide
# still mixes speakers and languages.
_WINDOW = 512

Model = Any
Processor = Any
"""Of AutoModelForCTC, and Wav2Vec2Processor or Wav2Vec2BertProcessor, which have no types."""


class CtcError(BadInput):
    """An encoder that CTC cannot be trained on; the text names it and the fix."""


class Recording(NamedTuple):
    """A transcribed recording and the seconds that its head says it lasts."""

    path: str
    text: str
    seconds: float


def vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Number the characters of the texts' spelling: blank, unknown, word delimiter, the others."""
    characters = {c for text in texts for c in spelling(text)} - {" "}
    return {token: i for i, token in enumerate([PAD, UNKNOWN, DELIMITER, *sorted(characters)])}


def load(encoder: str, texts: Iterable[str]) -> tuple[Model, Processor]:
    """Load an encoder in fp32 with a random CTC head for the texts' characters.

    Its convolutions are frozen, where the architecture has a method for it, as in all published
    recipes.

    Raises:
        EncoderError: It is missing, or no speech encoder.
        CtcError: It cannot be loaded.
    """
    read_config(encoder)
    name, revision = pinned(encoder)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name, revision=revision)
        seamless = isinstance(extractor, SeamlessM4TFeatureExtractor)
        kind = Wav2Vec2BertProcessor if seamless else Wav2Vec2Processor
        processor = kind(extractor, _tokenizer(vocabulary(texts)))
        model = AutoModelForCTC.from_pretrained(
            name,
            revision=revision,
            dtype=torch.float32,
            vocab_size=len(processor.tokenizer),
            pad_token_id=processor.tokenizer.pad_token_id,
            ctc_loss_reduction="mean",
            ctc_zero_infinity=True,
            ignore_mismatched_sizes=True,
            # Its masks are longer than short utterances, at which it fails. Workers that drop
            # different layers would wait for each other's gradients.
            apply_spec_augment=False,
            layerdrop=0.0,
        )
    except (OSError, ValueError) as error:
        raise CtcError(
            f"corpus.units.encoder: {encoder!r} cannot be fine-tuned with CTC ({error}); name a "
            "Wav2Vec2, Wav2Vec2-BERT, HuBERT, WavLM or XLS-R model that is on this machine or the "
            "hub"
        ) from error
    if hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    return model, processor


def fits(model: Model, processor: Processor, text: str, seconds: float) -> bool:
    """Tell whether a text has labels, and no more than CTC can spell in that time."""
    ids = processor.tokenizer(spelling(text)).input_ids
    blanks = sum(a == b for a, b in zip(ids, ids[1:], strict=False))
    return 0 < len(ids) + blanks <= seconds / frame_length(model.config) - _BORDER


@torch.inference_mode()
def error_rate(model: Model, processor: Processor, recordings: Iterable[Recording]) -> float:
    """Transcribe greedily; return the characters at fault by those spelled, over all recordings."""
    wrong = spelled = 0
    model.eval()
    for recording in recordings:
        truth, waveform = spelling(recording.text), _readable(recording)
        if waveform is not None:
            best = model(**_inputs(processor, [waveform]).to(model.device)).logits[0].argmax(dim=-1)
            wrong += edit_distance(processor.tokenizer.decode(best.tolist()), truth)
            spelled += len(truth)
    return wrong / max(spelled, 1)


def batches(seconds: np.ndarray, batch_seconds: float, seed: int) -> Iterator[np.ndarray]:
    """Yield batches without end, epoch after epoch, each epoch in an order of its own.

    Args:
        seconds: float [utterances], length of each.
        batch_seconds: Most audio of a batch with its padding; a longer utterance is alone.
        seed: Seed of the order.

    Yields:
        Indices into `seconds`, int64 [utterances of the batch].
    """
    for epoch in count():
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(seconds))
        found: list[list[int]] = []
        for start in range(0, len(order), _WINDOW):
            window = order[start : start + _WINDOW]
            found.append([])
            for index in window[np.argsort(seconds[window], kind="stable")].tolist():
                # The window rises in length: the newest is the longest.
                if found[-1] and (len(found[-1]) + 1) * seconds[index] > batch_seconds:
                    found.append([])
                found[-1].append(index)
        for place in random.permutation(len(found)):
            yield np.array(found[place], dtype=np.int64)


class Parts(Dataset[dict[str, Any]]):
    """What one worker computes, in the order of computing: `pieces` parts of each step's batch.

    An item holds the model's inputs, its labels, and `share`, by which its mean loss counts: the
    mean of share x loss over all parts of all workers is the mean loss of the batch. A part without
    utterances is silence that does not count. Nor does a recording damaged behind a sound head,
    which the pipeline will set aside.
    """

    def __init__(
        self, recordings: Sequence[Recording], processor: Processor, *, batch_seconds: float,
        steps: int, seed: int, rank: int, world_size: int,
    ) -> None:  # fmt: skip
        self.pieces = math.ceil(batch_seconds / MICRO_BATCH_SECONDS / world_size)
        self._recordings, self._processor = recordings, processor
        self._rank, self._world_size = rank, world_size
        seconds = np.array([recording.seconds for recording in recordings])
        self._batches = list(islice(batches(seconds, batch_seconds, seed), steps))

    def __len__(self) -> int:
        return len(self._batches) * self.pieces

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, piece = divmod(index, self.pieces)
        batch = [self._recordings[place] for place in self._batches[step]]
        parts = self.pieces * self._world_size
        part = batch[piece * self._world_size + self._rank :: parts]
        heard = [(waveform, r.text) for r in part if (waveform := _readable(r)) is not None]
        # Models with a group norm over time see the padding, so all parts must be padded alike.
        silence = np.zeros(round(max(r.seconds for r in batch) * SAMPLE_RATE), np.float32)
        waveforms = [waveform for waveform, _ in heard] or [silence]
        inputs = _inputs(self._processor, [*waveforms, silence])
        spelled = [self._processor.tokenizer(spelling(text)).input_ids for _, text in heard]
        labels = pad_sequence(
            [torch.tensor(ids) for ids in spelled or [[-100]]], batch_first=True, padding_value=-100
        )
        share = len(heard) * parts / len(batch)
        return {n: v[:-1] for n, v in inputs.items()} | {"labels": labels, "share": share}


def _tokenizer(numbers: dict[str, int]) -> Wav2Vec2CTCTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
        # No begin and end of sentence: they would be ids beyond the model's outputs.
        return Wav2Vec2CTCTokenizer(
            str(file), bos_token=None, eos_token=None, unk_token=UNKNOWN, pad_token=PAD,
            word_delimiter_token=DELIMITER,
        )  # fmt: skip


def _inputs(processor: Processor, waveforms: Sequence[np.ndarray]) -> Any:
    return processor.feature_extractor(
        waveforms, sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt"
    )


def _readable(recording: Recording) -> np.ndarray | None:
    """Decode a recording; None if it is damaged behind a sound head."""
    try:
        return read_audio(recording.path)
    except AudioError:
        return None
