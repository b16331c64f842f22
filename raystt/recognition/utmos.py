"""Naturalness of speech: UTMOS, a predictor of mean opinion scores (1 to 5), as the paper reports.

The model is the "strong learner" of Saeki et al. 2022: wav2vec 2.0 base, a bidirectional LSTM over
its frames, and a projection to a score. The weights are read from the file that SpeechMOS
publishes (utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS, MIT); nothing in it is executed, as
`torch.hub` would. They are loaded into the wav2vec 2.0 of transformers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raystt.errors import BadInput
from raystt.recognition.recognizer import audible

_STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of the convolutions of every wav2vec 2.0
_HEAD = 64  # width of its attention heads

# fairseq's names of the weights of wav2vec 2.0, and those of transformers.
_NAMES = (
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.0\.2\.", "feature_extractor.conv_layers.0.layer_norm."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^encoder\.pos_conv\.0\.bias$", "encoder.pos_conv_embed.conv.bias"),
    (
        r"^encoder\.pos_conv\.0\.weight_g$",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    ),
    (
        r"^encoder\.pos_conv\.0\.weight_v$",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    ),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
    (r"^mask_emb$", "masked_spec_embed"),
)


class UtmosError(BadInput):
    """The weights of UTMOS cannot be used; the message names the file and the fix."""


class Utmos(nn.Module):
    """UTMOS on transformers' wav2vec 2.0; its sizes are read off the weights.

    Args:
        weights: The state dict that SpeechMOS publishes.
        signature: Names the weights.

    Raises:
        KeyError: A weight is missing.
        RuntimeError: Weights do not fit together.
    """

    def __init__(self, weights: Mapping[str, Tensor], signature: str) -> None:
        super().__init__()
        from transformers import Wav2Vec2Model

        self.signature = signature
        inner = {
            _renamed(name.removeprefix("wav2vec2.")): value
            for name, value in weights.items()
            if name.startswith("wav2vec2.")
        }
        outer = {name: value for name, value in weights.items() if not name.startswith("wav2vec2.")}
        width = outer["blstm.weight_ih_l0"].shape[1]
        hidden = outer["blstm.weight_hh_l0"].shape[1]
        middle = outer["projection.0.weight"].shape[0]
        # On no device: random weights would take longer to draw than these take to load.
        with torch.device("meta"):
            self.wav2vec2 = Wav2Vec2Model(_config(inner))
            self.domain_emb = nn.Parameter(torch.empty(outer["domain_emb"].shape))
            self.judge_emb = nn.Parameter(torch.empty(outer["judge_emb"].shape))
            self.blstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
            self.projection = nn.Sequential(
                nn.Linear(2 * hidden, middle), nn.ReLU(), nn.Linear(middle, 1)
            )
        outer |= {f"wav2vec2.{name}": value for name, value in inner.items()}
        self.load_state_dict(outer, assign=True)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> Utmos:
        """Load the weights that SpeechMOS publishes.

        Raises:
            UtmosError: There is no such file, or it holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise UtmosError(
                f"{path}: there are no weights of UTMOS; download utmos22_strong_step7459_v1.pt "
                "from the releases of tarepan/SpeechMOS, and name it in `evaluation.utmos`"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        try:
            # Weights only: a file that would run code is refused.
            weights = torch.load(path, map_location="cpu", weights_only=True)
            model = cls(weights, f"utmos22-strong@{digest}")
        except Exception as error:  # pickle, zip, key and shape errors have no common base
            raise UtmosError(
                f"{path}: these are not the weights of UTMOS's strong learner ({error}); download "
                "utmos22_strong_step7459_v1.pt from the releases of tarepan/SpeechMOS"
            ) from error
        return model.to(device)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Score float32 `[batch, samples]` at 16 kHz, all of one length: `[batch]`."""
        frames = self.wav2vec2(waveforms).last_hidden_state
        size = (*frames.shape[:2], -1)
        domain, judge = (e.unsqueeze(1).expand(size) for e in (self.domain_emb, self.judge_emb))
        hidden, _ = self.blstm(torch.cat([frames, domain, judge], dim=2))
        scores: Tensor = self.projection(hidden).mean(dim=1).squeeze(1) * 2 + 3
        return scores

    @torch.inference_mode()
    def score(self, waveforms: Sequence[np.ndarray]) -> list[float | None]:
        """Score one by one: the model knows no padding, a score depends on its audio alone.

        Args:
            waveforms: float32 `[samples]` at 16 kHz each.

        Returns:
            About 1 (bad) to 5 (excellent) each; None for audio that is too short or silent.

        Raises:
            RecognizerError: A waveform is not one channel of finite samples.
        """
        scores: list[float | None] = [None] * len(waveforms)
        for index in audible(waveforms):
            waveform = torch.from_numpy(waveforms[index].astype(np.float32))
            scores[index] = float(self(waveform.to(self.domain_emb.device)[None])[0])
        return scores


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _config(weights: Mapping[str, Tensor]) -> Any:
    """Read the sizes of wav2vec 2.0 (the form of its base model) off its weights."""
    from transformers import Wav2Vec2Config

    convolutions = [
        weights[f"feature_extractor.conv_layers.{i}.conv.weight"].shape
        for i in range(len(_STRIDES))
    ]
    hidden = len(weights["encoder.layer_norm.weight"])
    position = weights["encoder.pos_conv_embed.conv.parametrizations.weight.original1"].shape
    layers = {m[1] for name in weights if (m := re.match(r"encoder\.layers\.(\d+)\.", name))}
    return Wav2Vec2Config(
        conv_dim=[shape[0] for shape in convolutions],
        conv_kernel=[shape[2] for shape in convolutions],
        conv_stride=list(_STRIDES),
        hidden_size=hidden,
        num_hidden_layers=len(layers),
        num_attention_heads=hidden // _HEAD,
        intermediate_size=len(weights["encoder.layers.0.feed_forward.intermediate_dense.bias"]),
        num_conv_pos_embeddings=position[2],
        num_conv_pos_embedding_groups=hidden // position[1],
    )
