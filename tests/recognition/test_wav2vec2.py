"""The recogniser of fairseq's protocol: a tiny wav2vec 2.0, loaded from disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from raystt.recognition.recognizer import RecognizerError
from raystt.recognition.wav2vec2 import Wav2Vec2Recognizer
from raystt.speech import SAMPLE_RATE

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINSHR'"]


def build(folder: Path, *, rate: int = SAMPLE_RATE, norm: str = "layer") -> Path:
    """Save a randomly initialised model; `norm` is "layer" in LV-60 models, "group" in base."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(LETTERS)}))
    torch.manual_seed(1)
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, conv_dim=[16] * 7, feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer", num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, initializer_range=1.0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(sampling_rate=rate, return_attention_mask=norm == "layer"),
        Wav2Vec2CTCTokenizer(str(folder / "vocab.json")),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny-lv60")


@pytest.fixture(scope="module")
def ctc(directory: Path) -> Wav2Vec2Recognizer:
    return Wav2Vec2Recognizer.load(str(directory))


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3000, 20000, 6)
    return [(0.2 * rng.standard_normal(n)).astype(np.float32) for n in lengths]


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_text_depends_on_its_audio_alone(
    norm: str, tmp_path: Path, sounds: list[np.ndarray]
) -> None:
    model = Wav2Vec2Recognizer.load(str(build(tmp_path / norm, norm=norm)))
    together = model.transcribe(sounds)
    assert len(set(together)) > 3
    assert together == [model.transcribe([sound])[0] for sound in sounds]
    assert together[::-1] == model.transcribe(sounds[::-1])


def test_it_decodes_greedily(
    ctc: Wav2Vec2Recognizer, directory: Path, sounds: list[np.ndarray]
) -> None:
    """Best letter of each frame, repeats merged, then blanks out: nothing else."""
    model = Wav2Vec2ForCTC.from_pretrained(directory).eval()
    wave = (sounds[0] - sounds[0].mean()) / np.sqrt(sounds[0].var() + 1e-7)
    with torch.inference_mode():
        logits = model(torch.from_numpy(wave)[None]).logits[0]
        logits[:, 1:4] = -torch.inf  # <s>, </s> and <unk> are no text
    best = logits.argmax(dim=-1).tolist()
    merged = [token for i, token in enumerate(best) if i == 0 or token != best[i - 1]]
    letters = [LETTERS[token] for token in merged if token != 0]
    expected = "".join(letters).replace("|", " ").strip()
    assert ctc.transcribe([sounds[0]]) == [expected] != [""]


def test_nothing_is_heard_in_nothing(ctc: Wav2Vec2Recognizer, sounds: list[np.ndarray]) -> None:
    silent = [np.zeros(n, np.float32) for n in (0, 1, SAMPLE_RATE // 20, SAMPLE_RATE)]
    heard = ctc.transcribe([*silent[:2], sounds[0], *silent[2:]])
    assert heard == ["", "", ctc.transcribe(sounds[:1])[0], "", ""]
    assert ctc.transcribe([]) == []
    with pytest.raises(RecognizerError, match="finite"):
        ctc.transcribe([np.full(4000, np.nan, np.float32)])


def test_the_protocol_only_lowers(ctc: Wav2Vec2Recognizer) -> None:
    assert ctc.normalise(" DON'T stop, Ana. ") == "don't stop, ana."
    assert not ctc.protocol.lowercase
    assert ctc.normaliser == "lower"


def test_signature(ctc: Wav2Vec2Recognizer) -> None:
    name, *rest = ctc.signature.split("|")
    assert name.startswith("tiny-lv60@")
    assert rest == ["decoding:greedy-ctc", "lm:none", "dtype:float32"]


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(RecognizerError, match="no CTC model of wav2vec 2.0"):
        Wav2Vec2Recognizer.load(str(tmp_path))
    with pytest.raises(RecognizerError, match="hears audio of 8000 Hz, not 16000"):
        Wav2Vec2Recognizer.load(str(build(tmp_path / "telephone", rate=8000)))
