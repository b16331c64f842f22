"""Speech networks of transformers: loading them, and running them over batches of waveforms.

What encoders and aligners share: batches of similar length whose results do not depend on which
waveforms share a batch, cut to the true number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoFeatureExtractor
from transformers.utils import logging

from raystt.errors import BadInput
from raystt.hub import pinned
from raystt.speech import SAMPLE_RATE

FAMILIES = ("wav2vec2", "wav2vec2-bert", "hubert", "wavlm")
"""Model types of transformers that encode; XLS-R and MMS are wav2vec2, mHuBERT is hubert."""

MAX_BATCH_SECONDS = 120.0
"""Padded audio of a batch, seconds."""

_FBANK_WINDOW, _FBANK_HOP = 400, 160  # samples; of the feature extractor of Wav2Vec2-BERT


class EncoderError(BadInput):
    """A speech model that cannot be loaded or used; the text names it and the fix."""


class SpeechNetwork:
    """A transformers speech model and its feature extractor: waveforms to frames of any output.

    Attributes:
        model: the model, in evaluation mode.
        frame_seconds: length of an output frame.
    """

    def __init__(
        self, name: str | Path, factory: Any, config: Any, device: str, max_batch_seconds: float
    ) -> None:
        path, revision = pinned(name)
        with _reading(name), _quiet():
            self._extractor = AutoFeatureExtractor.from_pretrained(path, revision=revision)
            self.model, found = factory.from_pretrained(
                path,
                revision=revision,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
            )
        # The one weight that only training needs; some checkpoints lack it.
        missing = [key for key in found["missing_keys"] if "masked_spec_embed" not in key]
        if missing:
            raise EncoderError(
                f"{name}: {len(missing)} weights of {type(self.model).__name__} are not in it "
                f"({', '.join(sorted(missing)[:3])}); name a model that was saved with them"
            )
        if self._extractor.sampling_rate != SAMPLE_RATE:
            raise EncoderError(
                f"{name}: made for {self._extractor.sampling_rate} Hz; name one of {SAMPLE_RATE} Hz"
            )
        self.model.eval().requires_grad_(False).to(device)
        self._device = device
        self._most = int(max_batch_seconds * SAMPLE_RATE)
        self._shortest = shortest(config)
        # A group norm looks at the whole padded input, and was trained without a mask; a batch
        # norm of the positions makes padding other than zero.
        self._mixed = config.model_type == "wav2vec2-bert" or not (
            config.feat_extract_norm == "group" or getattr(config, "conv_pos_batch_norm", False)
        )
        self.frame_seconds = frame_length(config)

    def frames(
        self,
        waveforms: Sequence[np.ndarray],
        output: Callable[[Any, dict[str, torch.Tensor]], torch.Tensor],
    ) -> list[np.ndarray]:
        """Return `output(model, inputs)`, [batch, frames, dimension], cut to the true frames."""

        def compute(batch: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
            inputs = self._extractor(
                batch,
                sampling_rate=SAMPLE_RATE,
                padding=True,
                return_attention_mask=self._mixed,
                return_tensors="pt",
            ).to(self._device)
            mask = inputs.get("attention_mask")
            lengths = torch.tensor([len(w) for w in batch]) if mask is None else mask.sum(dim=1)
            counts = self.model._get_feat_extract_output_lengths(lengths)
            return output(self.model, dict(inputs)), counts

        return in_batches(
            waveforms, compute, shortest=self._shortest, mixed=self._mixed, most=self._most
        )


def in_batches(
    waveforms: Sequence[np.ndarray],
    compute: Callable[[list[np.ndarray]], tuple[torch.Tensor, torch.Tensor]],
    *,
    shortest: int,
    mixed: bool,
    most: int,
) -> list[np.ndarray]:
    """Run a network over waveforms sorted by length; results come in the order of the waveforms.

    Args:
        waveforms: float32 [samples] each.
        compute: a batch of waveforms to outputs [batch, frames, dimension] and counts [batch] of
            true frames.
        shortest: samples that shorter waveforms are padded to, with silence.
        mixed: whether waveforms of different length may share a batch.
        most: samples of a batch with its padding; a single waveform may be longer.
    """
    padded = [np.pad(w, (0, max(0, shortest - len(w)))) for w in waveforms]
    found: list[np.ndarray] = [np.zeros(0)] * len(padded)
    with torch.inference_mode():
        for batch in _batches([len(w) for w in padded], mixed, most):
            outputs, counts = compute([padded[i] for i in batch])
            frames = outputs.float().cpu().numpy()
            for row, (index, count) in enumerate(zip(batch, counts.tolist(), strict=True)):
                found[index] = frames[row, :count].copy()
    return found


def read_config(name: str | Path) -> Any:
    """Read the config of a speech model: a directory, or NAME or NAME@REVISION of the hub.

    Raises:
        EncoderError: it is missing, or no speech encoder.
    """
    path, revision = pinned(name)
    with _reading(name):
        config = AutoConfig.from_pretrained(path, revision=revision)
    if config.model_type not in FAMILIES:
        raise EncoderError(
            f"{name}: a {config.model_type} is no speech encoder that raystt can use; choose from: "
            + ", ".join(FAMILIES)
        )
    return config


def checked_layer(name: str | Path, config: Any, layer: int | None) -> int:
    """Return the index of `hidden_states` of a layer, the last one's for None.

    Raises:
        EncoderError: the model has no such layer.
    """
    layers: int = config.num_hidden_layers
    if layer is not None and not 0 <= layer <= layers:
        raise EncoderError(f"{name}: layer {layer}: it has {layers}; choose 0 to {layers}")
    return layers if layer is None else layer


def frame_length(config: Any) -> float:
    """Return the seconds of an output frame of a model with this config, its adapter included."""
    if config.model_type == "wav2vec2-bert":
        samples = _FBANK_HOP * _stack(config)
    else:
        samples = prod(config.conv_stride)
    if getattr(config, "add_adapter", False):
        samples *= config.adapter_stride**config.num_adapter_layers
    return samples / SAMPLE_RATE


def shortest(config: Any) -> int:
    """Return the fewest samples that give a frame."""
    if config.model_type == "wav2vec2-bert":
        return _FBANK_WINDOW + (_stack(config) - 1) * _FBANK_HOP
    samples = 1
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    return samples


def _stack(config: Any) -> int:
    """Filter-bank frames that Wav2Vec2-BERT takes as one; it has 80 mel bins."""
    return int(config.feature_projection_input_dim) // 80


def _batches(lengths: Sequence[int], mixed: bool, most: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        length = lengths[index]
        full = (len(batch) + 1) * length > most
        if batch and (full or not (mixed or lengths[batch[0]] == length)):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@contextmanager
def _reading(name: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(
            f"{name}: cannot be loaded ({reason}); give the directory or hub name of a model saved "
            "with its feature extractor"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from listing the layers that are left out on purpose."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
