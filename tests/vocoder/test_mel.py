"""Neural mel vocoders by name: their features, units of any frame length, storing, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SpeechT5FeatureExtractor, SpeechT5HifiGan, SpeechT5HifiGanConfig

from raystt.preparation.fit_vocoder import Settings, train_vocoder
from raystt.vocoder.conv import ConvVocoder
from raystt.vocoder.mel import MelVocoder
from raystt.vocoder.spectrum import VocoderError

HOP = 256


def save_mel_vocoder(folder: Path, seed: int = 0, **changes: object) -> str:
    """Write a tiny `SpeechT5HifiGan` as the hub has it, and return the directory."""
    torch.manual_seed(seed)
    size = {"upsample_initial_channel": 16, "resblock_kernel_sizes": [3]}
    config = SpeechT5HifiGanConfig(**size, resblock_dilation_sizes=[[1]], **changes)
    SpeechT5HifiGan(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def mel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_mel_vocoder(tmp_path_factory.mktemp("mel"))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def test_features_are_those_of_the_extractor(mel: str) -> None:
    vocoder = MelVocoder.load(mel)
    assert (vocoder.mels, vocoder.outputs, vocoder.step) == (80, 80, HOP)
    waveform = noise(5000)
    found = vocoder.log_mel(torch.from_numpy(waveform), 5000).numpy()
    asked = SpeechT5FeatureExtractor()(audio_target=waveform, sampling_rate=16000)["input_values"]
    assert found.dtype == np.float32 and found.shape == (20, 80)
    np.testing.assert_array_equal(found, asked[0][:20])
    # Cut to the samples that are asked for, or padded with silence.
    cut = vocoder.log_mel(torch.from_numpy(noise(9000)), 5000).numpy()
    np.testing.assert_array_equal(cut, found)
    padded = vocoder.log_mel(torch.from_numpy(waveform), 9000).numpy()
    assert padded.shape == (36, 80) and (padded[24:] == -10).all()  # log10 of the floor


def test_features_named_beside_the_model_are_taken(tmp_path: Path) -> None:
    name = save_mel_vocoder(tmp_path)
    extractor = SpeechT5FeatureExtractor(fmin=200)
    extractor.save_pretrained(name)
    waveform = noise(4000)
    found = MelVocoder.load(name).log_mel(torch.from_numpy(waveform), 4000).numpy()
    asked = extractor(audio_target=waveform, sampling_rate=16000)["input_values"][0]
    np.testing.assert_array_equal(found, asked[:16])


def test_speaks_what_the_model_speaks(mel: str) -> None:
    frames = torch.randn(9, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        asked = SpeechT5HifiGan.from_pretrained(mel)(frames)
    found = MelVocoder.load(mel).waveform(frames, 9 * HOP - 100)
    assert torch.equal(found, asked[:-100])


def test_units_of_20_ms_without_durations(mel: str) -> None:
    given = [
        (np.random.default_rng(i).integers(0, 10, 25), np.ones(25, np.int64), noise(8000 - i, i))
        for i in range(4)
    ]
    losses: list[float] = []
    made = train_vocoder(
        given,
        Settings(10, 0.02, steps=30, hidden=16, batch=2, mel=mel),
        on_step=lambda step, steps, loss: losses.append(loss),
    )
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:3])
    lengths = [1, 2, 4, 25]
    found = made.synthesize([np.arange(length) % 10 for length in lengths])
    assert [len(waveform) for waveform in found] == [320 * length for length in lengths]
    assert all(np.isfinite(waveform).all() for waveform in found)
    assert made._network.duration is None  # nothing to predict: all of them are 1
    alone = made.synthesize([np.arange(4)])[0]
    assert np.array_equal(alone, found[2])


def test_deduplicated_units_of_60_ms(mel: str) -> None:
    given = [(np.arange(8), np.arange(8) % 3 + 1, noise(15 * 960))]
    made = train_vocoder(given, Settings(8, 0.06, steps=2, hidden=8, mel=mel))
    (spoken,) = made.synthesize([np.arange(8)], [given[0][1]])
    assert len(spoken) == 15 * 960
    (predicted,) = made.synthesize([np.arange(8)])
    assert len(predicted) % 960 == 0 and 8 * 960 <= len(predicted) <= 24 * 960


def test_frames_lie_in_the_unit_frame_of_their_time(mel: str) -> None:
    given = [(np.arange(5), np.ones(5, np.int64), noise(1600))]
    network = train_vocoder(given, Settings(5, 0.02, steps=1, hidden=8, mel=mel))._network
    inside = torch.tensor([False] * 2 + [True] * 5 + [False])
    places, offsets = network._places(inside)
    # Mel frames begin at 0, 256, 512, ... 1536 samples; unit frames are of 320.
    assert places.tolist() == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7]
    assert offsets[2:9].tolist() == pytest.approx([0, 0.8, 0.6, 0.4, 0.2, 0, 0.8])


def test_saved_and_loaded_is_the_same(mel: str, tmp_path: Path) -> None:
    given = [(np.arange(8), np.ones(8, np.int64), noise(2560))]
    made = train_vocoder(given, Settings(8, 0.02, steps=2, hidden=8, mel=mel))
    made.save(tmp_path)
    loaded = ConvVocoder.load(tmp_path)
    assert loaded.signature == made.signature
    conv, named = made.signature.split("+")
    assert conv.startswith("conv-")
    assert named == f"{Path(mel).name}-{MelVocoder.load(mel).weights}"
    before, after = (each.synthesize([np.arange(8)])[0] for each in (made, loaded))
    assert np.array_equal(before, after)

    # Another mel vocoder under the same name would speak something else.
    card = json.loads((tmp_path / "vocoder.json").read_text())
    assert card["mel"]["name"] == mel
    card["mel"]["name"] = save_mel_vocoder(tmp_path / "other", seed=1)
    (tmp_path / "vocoder.json").write_text(json.dumps(card))
    with pytest.raises(VocoderError, match="was fitted for the mel vocoder .*other with weights"):
        ConvVocoder.load(tmp_path)


def test_unfitting_models(tmp_path: Path, mel: str) -> None:
    with pytest.raises(VocoderError, match="mel vocoder nowhere/else cannot be loaded"):
        MelVocoder.load("nowhere/else")
    with pytest.raises(VocoderError, match=r"\(40, 256, 16000\), its features are \(80, 256, "):
        MelVocoder.load(save_mel_vocoder(tmp_path / "bands", model_in_dim=40))
    with pytest.raises(VocoderError, match=r"\(80, 320, 16000\)"):
        MelVocoder.load(save_mel_vocoder(tmp_path / "hop", upsample_rates=[4, 4, 4, 5]))
    with pytest.raises(VocoderError, match="22050"):
        MelVocoder.load(save_mel_vocoder(tmp_path / "rate", sampling_rate=22050))
    (tmp_path / "bands" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(VocoderError, match="bands cannot be loaded"):
        MelVocoder.load(str(tmp_path / "bands"))
