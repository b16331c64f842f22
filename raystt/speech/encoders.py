"""Speech encoders: waveforms to the frames of features that k-means makes units of.

`mfcc` and `mfcc_20ms` need no trained network: MFCC and their deltas, averaged over 60 ms or not.
Units of 60 ms are few, and do for synthesized speech; of recordings they lose what was said
(docs/performance.md). All others are hidden layers of a transformers speech model (Wav2Vec2 and
XLS-R, Wav2Vec2-BERT, HuBERT, WavLM, or CTC models of them), as the paper's units (section 3: layer
20 of a w2v-BERT fine-tuned by CTC).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torchaudio import transforms
from torchaudio.functional import compute_deltas
from transformers import AutoModel

from raystt.speech import CEPSTRA, MFCC, SAMPLE_RATE
from raystt.speech.network import (
    MAX_BATCH_SECONDS,
    SpeechNetwork,
    checked_layer,
    frame_length,
    read_config,
)

_HOP = 320  # samples; 20 ms
_WINDOW = 800  # samples; 50 ms


class Encoder(Protocol):
    """What turns waveforms into frames of features.

    Attributes:
        name: what a codebook records: model, layer, and whether it was fine-tuned.
        frame_seconds: length of a frame.
        dimension: features of a frame.
    """

    name: str
    frame_seconds: float
    dimension: int

    def features(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode waveforms, float32 [samples] each, to float32 [frames, dimension] each.

        There is at least one frame, however short the waveform is.
        """
        ...


class MfccEncoder:
    """MFCC and deltas, 40 features, averaged over the frames of a name of `MFCC`; see `Encoder`."""

    dimension = 2 * CEPSTRA

    def __init__(self, name: str = "mfcc") -> None:
        self.name = name
        self.frame_seconds = MFCC[name]
        self._pool = round(self.frame_seconds * SAMPLE_RATE) // _HOP

    def features(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode waveforms; what is left at their end counts as a frame from half of one on."""
        return [_pooled(waveform, self._pool) for waveform in waveforms]


class TransformersEncoder:
    """A hidden layer of a transformers speech model; see `Encoder`.

    The layers above the wanted one are not loaded, nor is an adapter behind them.

    Args:
        model: directory or hub name (pinned as NAME@REVISION) of the model or a CTC model of it.
        layer: index of `hidden_states`: 0 = before the first layer, k = after layer k; None = the
            last. No final layer norm is applied.
        name: see `Encoder`; by default the model and the layer.
        device: where it runs, in float32.
        max_batch_seconds: most padded audio of a batch.

    Raises:
        EncoderError: the model cannot be loaded, is no speech encoder, or has no such layer.
    """

    def __init__(
        self,
        model: str | Path,
        layer: int | None,
        *,
        name: str | None = None,
        device: str = "cpu",
        max_batch_seconds: float = MAX_BATCH_SECONDS,
    ) -> None:
        config = read_config(model)
        self._layer = checked_layer(model, config, layer)
        # One layer more than needed, so that a final norm never falls on the wanted one.
        config.num_hidden_layers = min(self._layer + 1, config.num_hidden_layers)
        config.add_adapter = False
        self._network = SpeechNetwork(model, AutoModel, config, device, max_batch_seconds)
        self.name = name or encoder_name(model, layer, finetuned=False)
        self.frame_seconds = self._network.frame_seconds
        self.dimension = int(config.hidden_size)

    def features(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode waveforms in batches of similar length; see `Encoder`."""
        return self._network.frames(waveforms, self._hidden)

    def _hidden(self, network: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return network(**inputs, output_hidden_states=True).hidden_states[self._layer]


def encoder(
    model: str, layer: int | None, *, finetuned: Path | None = None, device: str = "cpu"
) -> Encoder:
    """Load an encoder by name.

    Args:
        model: a name of `MFCC`, or see `TransformersEncoder`.
        layer: see `TransformersEncoder`.
        finetuned: directory of weights that replace those of the model.
        device: where it runs.

    Raises:
        EncoderError: it cannot be loaded, or has no such layer.
    """
    if model in MFCC:
        return MfccEncoder(model)
    name = encoder_name(model, layer, finetuned=finetuned is not None)
    return TransformersEncoder(finetuned or model, layer, name=name, device=device)


def frame_seconds(model: str | Path) -> float:
    """Return the length of a frame of an encoder, without loading weights.

    Raises:
        EncoderError: its config cannot be read.
    """
    if model in MFCC:
        return MFCC[str(model)]
    config = read_config(model)
    config.add_adapter = False
    return frame_length(config)


def encoder_name(model: str | Path, layer: int | None, *, finetuned: bool) -> str:
    """Return the name of an encoder: "facebook/w2v-bert-2.0, layer 20, fine-tuned"."""
    where = "last layer" if layer is None else f"layer {layer}"
    return f"{model}, {where}" + (", fine-tuned" if finetuned else "")


def _pooled(waveform: np.ndarray, pool: int) -> np.ndarray:
    frame = pool * _HOP
    count = max(1, round(len(waveform) / frame))
    padded = np.zeros(max(count * frame, 2 * _WINDOW), dtype=np.float32)
    kept = min(len(waveform), len(padded))
    padded[:kept] = waveform[:kept]
    cepstra = _mfcc()(torch.from_numpy(padded))[:, : count * pool]
    both = torch.cat([cepstra, compute_deltas(cepstra)])
    return both.reshape(2 * CEPSTRA, count, pool).mean(dim=2).T.contiguous().numpy()


@cache
def _mfcc() -> transforms.MFCC:
    return transforms.MFCC(
        SAMPLE_RATE,
        CEPSTRA,
        melkwargs={"n_fft": 1024, "win_length": _WINDOW, "hop_length": _HOP, "n_mels": 40},
    )
