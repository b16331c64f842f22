"""The vocoder "seamless", on tiny models of the real class, in both layouts of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, SeamlessM4Tv2Config, SeamlessM4Tv2Model
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from raystt.vocoder.loading import load_vocoder
from raystt.vocoder.seamless import SeamlessVocoder, save_seamless
from raystt.vocoder.spectrum import VocoderError

UNITS = 30
LANGUAGES = {"deu": 1, "eng": 2, "spa": 3}
OWN = {"clusters": UNITS, "frame_seconds": 0.02, "deduplicated": True}


def config() -> SeamlessM4Tv2Config:
    """Tiny in width and depth; the steps of the HiFi-GAN are the real ones, 20 ms a unit."""
    return SeamlessM4Tv2Config(
        vocab_size=20, t2u_vocab_size=20, char_vocab_size=20, hidden_size=8,
        encoder_layers=1, encoder_ffn_dim=8, encoder_attention_heads=2,
        decoder_layers=1, decoder_ffn_dim=8, decoder_attention_heads=2,
        speech_encoder_layers=1, speech_encoder_attention_heads=2,
        speech_encoder_intermediate_size=8, feature_projection_input_dim=8,
        t2u_encoder_layers=1, t2u_encoder_ffn_dim=8, t2u_encoder_attention_heads=2,
        t2u_decoder_layers=1, t2u_decoder_ffn_dim=8, t2u_decoder_attention_heads=2,
        t2u_variance_predictor_embed_dim=8, t2u_variance_predictor_hidden_dim=8,
        max_position_embeddings=32, t2u_max_position_embeddings=32,
        upsample_initial_channel=32, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
        unit_hifi_gan_vocab_size=UNITS, unit_embed_dim=12, lang_embed_dim=4, spkr_embed_dim=4,
        vocoder_num_langs=4, vocoder_num_spkrs=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SeamlessM4Tv2Model:
    torch.manual_seed(0)
    model = SeamlessM4Tv2Model(config()).eval()
    with torch.no_grad():  # units of several lengths, as a trained model predicts them
        model.vocoder.dur_predictor.proj.weight.normal_(0, 0.2)
        model.vocoder.unit_embedding.weight.normal_(0, 1)
    return model


@pytest.fixture(scope="module")
def layouts(whole: SeamlessM4Tv2Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole checkpoint in one file, one in shards, and the code HiFi-GAN alone."""
    folder = tmp_path_factory.mktemp("seamless")
    languages = GenerationConfig(vocoder_lang_code_to_id=LANGUAGES)
    for name, size in {"one": "1GB", "shards": "20KB"}.items():
        whole.save_pretrained(folder / name, max_shard_size=size)
        languages.save_pretrained(folder / name)
    alone = config()
    alone.vocoder_lang_code_to_id = LANGUAGES
    hifigan = SeamlessM4Tv2CodeHifiGan(alone)
    hifigan.load_state_dict(whole.vocoder.state_dict())
    hifigan.save_pretrained(folder / "alone")
    return {name: folder / name for name in ("one", "shards", "alone")}


@pytest.mark.parametrize("layout", ["one", "shards", "alone"])
def test_speaks_what_the_model_speaks(
    layout: str, layouts: dict[str, Path], whole: SeamlessM4Tv2Model
) -> None:
    vocoder = SeamlessVocoder.from_pretrained(str(layouts[layout]))
    units = np.array([4, 1, 7, 7, 29, 0])
    with torch.no_grad():
        asked = whole.vocoder(
            torch.from_numpy(units)[None],
            torch.tensor([[0]]),
            torch.tensor([[LANGUAGES["eng"]]]),
        )[0][0].numpy()
    (found,) = vocoder.synthesize([units])
    assert np.array_equal(found, asked)
    assert found.dtype == np.float32 and len(found) > 320 * len(units)


def test_layouts_have_one_signature(layouts: dict[str, Path]) -> None:
    vocoders = [SeamlessVocoder.from_pretrained(str(folder)) for folder in layouts.values()]
    assert len({vocoder.signature for vocoder in vocoders}) == 1
    assert vocoders[0].signature.startswith("seamless-eng0-")


def test_only_the_vocoder_is_read(layouts: dict[str, Path], tmp_path: Path) -> None:
    shards = json.loads((layouts["shards"] / "model.safetensors.index.json").read_text())
    files = {file for key, file in shards["weight_map"].items() if key.startswith("vocoder.")}
    assert 0 < len(files) < len(set(shards["weight_map"].values()))
    for path in layouts["shards"].iterdir():
        if path.suffix == ".json" or path.name in files:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(SeamlessVocoder.from_pretrained(str(tmp_path)).synthesize([np.arange(3)])) == 1


def test_units_with_durations(layouts: dict[str, Path]) -> None:
    name = str(layouts["alone"])
    units, durations = np.array([3, 4, 5]), np.array([2, 1, 3])
    vocoder = SeamlessVocoder.from_pretrained(name)
    (spoken,) = vocoder.synthesize([units], [durations])
    assert len(spoken) == 6 * 320
    every_frame = SeamlessVocoder.from_pretrained(name, deduplicated=False)
    (same,) = every_frame.synthesize([np.repeat(units, durations)])
    assert np.array_equal(spoken, same)
    assert every_frame.signature != vocoder.signature
    # Where the durations are those that it predicts, its own way and ours are the same.
    (own,) = vocoder.synthesize([units])
    with torch.no_grad():
        logs = vocoder._model.dur_predictor(
            vocoder._model.unit_embedding(torch.tensor([[3, 4, 5]]))
        )
    predicted = logs.expm1().round().long().clamp(min=1)[0].numpy()
    assert np.array_equal(own, vocoder.synthesize([units], [predicted])[0])


def test_odd_sequences(layouts: dict[str, Path]) -> None:
    vocoder = SeamlessVocoder.from_pretrained(str(layouts["one"]))
    given = [np.zeros(0, np.int64), np.array([1]), np.full(50, 1), np.arange(UNITS)]
    made = vocoder.synthesize(given)
    assert len(made[0]) == 0 and made[0].dtype == np.float32
    assert all(np.isfinite(waveform).all() for waveform in made)
    assert np.array_equal(made[3], vocoder.synthesize(given[3:])[0])
    assert vocoder.synthesize([]) == []
    for unit in (-1, UNITS):
        with pytest.raises(VocoderError, match=f"sentence 1: unit {unit} is not .* 0 to 29"):
            vocoder.synthesize([np.array([1]), np.array([unit])])


def test_card_of_a_corpus(layouts: dict[str, Path], tmp_path: Path) -> None:
    name = str(layouts["one"])
    save_seamless(tmp_path / "vocoder", name, **OWN)
    assert [path.name for path in (tmp_path / "vocoder").iterdir()] == ["vocoder.json"]
    loaded = load_vocoder("seamless", tmp_path / "vocoder")
    assert loaded.signature == SeamlessVocoder.from_pretrained(name).signature
    save_seamless(tmp_path / "frames", name, **{**OWN, "deduplicated": False})
    spoken = load_vocoder("seamless", tmp_path / "frames").synthesize([np.arange(5)])
    assert len(spoken[0]) == 5 * 320


def test_a_codebook_of_another_size_is_refused(layouts: dict[str, Path], tmp_path: Path) -> None:
    name = str(layouts["one"])
    with pytest.raises(VocoderError, match="its own 30 units, the corpus' codebook has 200"):
        save_seamless(tmp_path / "vocoder", name, **{**OWN, "clusters": 200})
    with pytest.raises(VocoderError, match="units of 20 ms, the corpus' are of 60 ms"):
        save_seamless(tmp_path / "vocoder", name, **{**OWN, "frame_seconds": 0.06})
    assert not (tmp_path / "vocoder").exists()


def test_unfitting_models(layouts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="nowhere/else: no SeamlessM4T v2 can be read"):
        SeamlessVocoder.from_pretrained("nowhere/else")
    with pytest.raises(VocoderError, match="vocoder.json: no readable vocoder"):
        SeamlessVocoder.load(tmp_path)

    for path in layouts["one"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["vocoder.hifi_gan.conv_pre.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(VocoderError, match=r"1 weights .* the first is hifi_gan.conv_pre.bias"):
        SeamlessVocoder.from_pretrained(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(VocoderError, match=r"model.safetensors is missing"):
        SeamlessVocoder.from_pretrained(str(tmp_path))
    (tmp_path / "generation_config.json").unlink()
    with pytest.raises(VocoderError, match="vocoder_lang_code_to_id names no 'eng'"):
        SeamlessVocoder.from_pretrained(str(tmp_path))
