"""UTMOS: a small model in the published layout, computed again with torch alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from raystt.recognition.utmos import Utmos, UtmosError
from raystt.speech import SAMPLE_RATE

WIDTH, LAYERS, CHANNELS, GROUPS, HIDDEN, EMBEDDED = 128, 2, 8, 4, 6, 3
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


def published() -> dict[str, Tensor]:
    """Random weights under the names of the published file."""
    shapes: dict[str, tuple[int, ...]] = {
        "domain_emb": (1, EMBEDDED), "judge_emb": (1, EMBEDDED),
        "projection.0.weight": (10, 2 * HIDDEN), "projection.0.bias": (10,),
        "projection.2.weight": (1, 10), "projection.2.bias": (1,),
    }  # fmt: skip
    for end in ("", "_reverse"):
        shapes[f"blstm.weight_ih_l0{end}"] = (4 * HIDDEN, WIDTH + 2 * EMBEDDED)
        shapes[f"blstm.weight_hh_l0{end}"] = (4 * HIDDEN, HIDDEN)
        shapes |= {f"blstm.bias_{side}_l0{end}": (4 * HIDDEN,) for side in ("ih", "hh")}
    w = "wav2vec2."
    for i, kernel in enumerate(KERNELS):
        shapes[f"{w}feature_extractor.conv_layers.{i}.0.weight"] = (
            CHANNELS, CHANNELS if i else 1, kernel,
        )  # fmt: skip

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{w}{name}.weight"], shapes[f"{w}{name}.bias"] = (rows, columns), (rows,)

    def norm(name: str, size: int) -> None:
        shapes[f"{w}{name}.weight"] = shapes[f"{w}{name}.bias"] = (size,)

    norm("feature_extractor.conv_layers.0.2", CHANNELS)
    norm("layer_norm", CHANNELS)
    linear("post_extract_proj", WIDTH, CHANNELS)
    shapes[f"{w}mask_emb"] = (WIDTH,)
    shapes[f"{w}encoder.pos_conv.0.bias"] = (WIDTH,)
    shapes[f"{w}encoder.pos_conv.0.weight_g"] = (1, 1, 16)
    shapes[f"{w}encoder.pos_conv.0.weight_v"] = (WIDTH, WIDTH // GROUPS, 16)
    norm("encoder.layer_norm", WIDTH)
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}."
        for part in "qkv":
            linear(f"{layer}self_attn.{part}_proj", WIDTH, WIDTH)
        linear(f"{layer}self_attn.out_proj", WIDTH, WIDTH)
        linear(f"{layer}fc1", 2 * WIDTH, WIDTH)
        linear(f"{layer}fc2", WIDTH, 2 * WIDTH)
        norm(f"{layer}self_attn_layer_norm", WIDTH)
        norm(f"{layer}final_layer_norm", WIDTH)
    random = torch.Generator().manual_seed(0)
    return {n: 0.3 * torch.randn(shape, generator=random) for n, shape in shapes.items()}


def expected(weights: dict[str, Tensor], waveform: np.ndarray) -> float:
    """Compute the score of one waveform, step by step as the model is described."""
    p = {name.removeprefix("wav2vec2."): value for name, value in weights.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    x = torch.from_numpy(waveform)[None, None]
    for i, stride in enumerate(STRIDES):
        x = F.conv1d(x, p[f"feature_extractor.conv_layers.{i}.0.weight"], stride=stride)
        if i == 0:
            name = "feature_extractor.conv_layers.0.2"
            x = F.group_norm(x, CHANNELS, p[f"{name}.weight"], p[f"{name}.bias"])
        x = F.gelu(x)
    x = linear(norm(x[0].T, "layer_norm"), "post_extract_proj")
    v, g = p["encoder.pos_conv.0.weight_v"], p["encoder.pos_conv.0.weight_g"]
    kernel = v * g / v.norm(dim=(0, 1), keepdim=True)
    bias = p["encoder.pos_conv.0.bias"]
    position = F.conv1d(x.T[None], kernel, bias, padding=8, groups=GROUPS)[0, :, :-1]
    x = norm(x + F.gelu(position).T, "encoder.layer_norm")
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}."
        q, k, v = (
            linear(x, f"{layer}self_attn.{part}_proj").view(len(x), -1, 64).transpose(0, 1)
            for part in "qkv"
        )
        heads = torch.softmax(q @ k.transpose(1, 2) / 8, dim=-1) @ v
        mixed = linear(heads.transpose(0, 1).reshape(len(x), -1), f"{layer}self_attn.out_proj")
        x = norm(x + mixed, f"{layer}self_attn_layer_norm")
        x = norm(x + linear(F.gelu(linear(x, f"{layer}fc1")), f"{layer}fc2"),
                 f"{layer}final_layer_norm")  # fmt: skip
    constant = [p[name].expand(len(x), -1) for name in ("domain_emb", "judge_emb")]
    lstm = torch.nn.LSTM(WIDTH + 2 * EMBEDDED, HIDDEN, batch_first=True, bidirectional=True)
    lstm.load_state_dict({n[6:]: value for n, value in p.items() if n.startswith("blstm.")})
    hidden = lstm(torch.cat([x, *constant], dim=1)[None])[0][0]
    frames = linear(F.relu(linear(hidden, "projection.0")), "projection.2")
    return float(frames.mean() * 2 + 3)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("utmos") / "weights.pt"
    torch.save(published(), path)
    return path


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [(0.2 * rng.standard_normal(n)).astype(np.float32) for n in (1700, 9001, 16000)]


@torch.inference_mode()
def test_scores_are_those_of_the_published_model(file: Path, sounds: list[np.ndarray]) -> None:
    found = Utmos.load(file).score(sounds)
    assert found == pytest.approx([expected(published(), sound) for sound in sounds], abs=1e-4)
    assert len({round(score, 3) for score in found if score is not None}) == 3


def test_a_score_depends_on_its_audio_alone(file: Path, sounds: list[np.ndarray]) -> None:
    model = Utmos.load(file)
    silent = [np.zeros(n, np.float32) for n in (0, 800, SAMPLE_RATE)]
    alone = [model.score([sound])[0] for sound in sounds]
    assert model.score([*silent, *sounds[::-1]]) == [None, None, None, *alone[::-1]]
    assert model.score([]) == []


def test_signature_names_the_weights(file: Path, tmp_path: Path) -> None:
    assert Utmos.load(file).signature.startswith("utmos22-strong@")
    torch.save({**published(), "judge_emb": torch.ones(1, EMBEDDED)}, tmp_path / "weights.pt")
    assert Utmos.load(tmp_path / "weights.pt").signature != Utmos.load(file).signature


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("this must not run",)


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UtmosError, match="there are no weights of UTMOS; download utmos22"):
        Utmos.load(tmp_path / "none.pt")
    path = tmp_path / "other.pt"
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(UtmosError, match="not the weights of UTMOS's strong learner"):
        Utmos.load(path)
    torch.save(_Evil(), path)
    with pytest.raises(UtmosError, match="not the weights"):
        Utmos.load(path)
    assert "must not run" not in capsys.readouterr().out
