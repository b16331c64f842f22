"""The vocoder "conv": storing, odd sequences, errors, and intelligible resynthesis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from codebooks import fit_codebook

from raystt.preparation.fit_vocoder import Settings, train_vocoder
from raystt.preparation.vocoder_features import Utterance
from raystt.readers.grammar import pairs
from raystt.recognition.sphinx import PocketSphinx
from raystt.speech.encoders import MfccEncoder
from raystt.speech.tts import EspeakSynthesizer
from raystt.speech.units import Codebook, deduplicate
from raystt.vocoder.conv import ConvVocoder
from raystt.vocoder.loading import load_vocoder
from raystt.vocoder.spectrum import VocoderError

CLUSTERS, FRAME = 50, 960
Spoken = list[tuple[str, np.ndarray]]


def codebook(waveforms: list[np.ndarray], clusters: int) -> Codebook:
    frames = np.concatenate(MfccEncoder().features(waveforms))
    return fit_codebook(frames, clusters, seed=0, encoder="mfcc")


def encode(book: Codebook, waveforms: list[np.ndarray]) -> list[Utterance]:
    features = MfccEncoder().features(waveforms)
    return [
        (*deduplicate(book.assign(frames)), waveform)
        for frames, waveform in zip(features, waveforms, strict=True)
    ]


@pytest.fixture(scope="module")
def utterances(test_speech: Spoken) -> list[Utterance]:
    waveforms = [waveform for _, waveform in test_speech]
    return encode(codebook(waveforms, CLUSTERS), waveforms)


@pytest.fixture(scope="module")
def fitted(utterances: list[Utterance]) -> tuple[ConvVocoder, list[tuple[int, int, float]]]:
    log: list[tuple[int, int, float]] = []
    made = train_vocoder(
        utterances,
        Settings(CLUSTERS, steps=30, hidden=32),
        on_step=lambda step, steps, loss: log.append((step, steps, loss)),
    )
    return made, log


Fitted = tuple[ConvVocoder, list[tuple[int, int, float]]]


def test_fitting_lowers_the_loss(fitted: Fitted) -> None:
    log = fitted[1]
    assert [(step, steps) for step, steps, _ in log] == [(i, 30) for i in range(1, 31)]
    losses = [loss for _, _, loss in log]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])


def test_fitting_is_seeded(utterances: list[Utterance]) -> None:
    def signature(seed: int) -> str:
        return train_vocoder(
            utterances, Settings(CLUSTERS, seed=seed, steps=3, hidden=16)
        ).signature

    assert signature(0) == signature(0) != signature(1)


def test_saved_and_loaded_is_the_same(
    fitted: Fitted, utterances: list[Utterance], tmp_path: Path
) -> None:
    fitted[0].save(tmp_path / "vocoder")
    loaded = ConvVocoder.load(tmp_path / "vocoder")
    assert loaded.signature == fitted[0].signature
    assert loaded.signature.startswith("conv-")
    units = [utterance[0] for utterance in utterances[:2]]
    before, after = fitted[0].synthesize(units), loaded.synthesize(units)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert {path.suffix for path in (tmp_path / "vocoder").iterdir()} == {".json", ".safetensors"}


def test_audio_follows_the_units(fitted: Fitted, utterances: list[Utterance]) -> None:
    for units, durations, _ in utterances[:3]:
        (waveform,) = fitted[0].synthesize([units])
        assert waveform.dtype == np.float32 and np.isfinite(waveform).all()
        assert len(waveform) % FRAME == 0
        assert len(waveform) == pytest.approx(durations.sum() * FRAME, rel=0.25)
        assert 0.01 < np.abs(waveform).max() < 4


def test_a_sentence_does_not_depend_on_its_batch(
    fitted: Fitted, utterances: list[Utterance]
) -> None:
    units = [utterance[0] for utterance in utterances[:4]]
    together = fitted[0].synthesize([*units[::-1], np.zeros(0, np.int64)])
    alone = [fitted[0].synthesize([each])[0] for each in units]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together[3::-1], strict=True))


@pytest.mark.slow
def test_whatever_a_language_model_generates(fitted: Fitted) -> None:
    random = np.random.default_rng(0).integers(0, CLUSTERS, 2000)
    given = [np.zeros(0, np.int64), np.array([7]), np.full(300, 3), np.arange(CLUSTERS), random]
    made = fitted[0].synthesize(given)
    assert len(made[0]) == 0 and made[0].dtype == np.float32
    for units, waveform in zip(given, made, strict=True):
        assert np.isfinite(waveform).all()
        assert len(units) * FRAME <= len(waveform) <= len(units) * FRAME * 10
    assert fitted[0].synthesize([]) == []


def test_durations_can_be_given(fitted: Fitted, utterances: list[Utterance]) -> None:
    units, durations, _ = utterances[0]
    (waveform,) = fitted[0].synthesize([units], [durations])
    assert len(waveform) == durations.sum() * FRAME
    (predicted,) = fitted[0].synthesize([units])
    assert len(predicted) != len(waveform)


def test_strange_units(fitted: Fitted) -> None:
    with pytest.raises(VocoderError, match="sentence 1: unit 50 is not .* holds 0 to 49"):
        fitted[0].synthesize([np.array([1]), np.array([3, 50])])
    with pytest.raises(VocoderError, match="unit -1"):
        fitted[0].synthesize([np.array([-1])])


def test_missing_files_and_names(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="no readable vocoder .*raystt prepare"):
        ConvVocoder.load(tmp_path)
    fitted[0].save(tmp_path)
    (tmp_path / "vocoder.safetensors").write_bytes(b"broken")
    with pytest.raises(VocoderError, match="no readable vocoder"):
        ConvVocoder.load(tmp_path)
    with pytest.raises(VocoderError, match="'hifigan' is unknown; take one of: conv, seamless"):
        load_vocoder("hifigan", tmp_path)


def test_loading_by_name(fitted: Fitted, tmp_path: Path) -> None:
    fitted[0].save(tmp_path / "here")
    found = load_vocoder("conv", tmp_path / "here")
    assert found.signature == fitted[0].signature
    with pytest.raises(VocoderError, match="here/vocoder.json: no readable .* not of .*'seamless'"):
        load_vocoder("seamless", tmp_path / "here")


@pytest.mark.slow
def test_resynthesis_of_held_out_sentences_is_understood(
    english: EspeakSynthesizer,
    recogniser: tuple[PocketSphinx, Path],
    test_speech: Spoken,
    word_error_rate: Callable[[list[str], list[str]], float],
) -> None:
    texts = [pair.target for pair in pairs("es", "train", 300, seed=1)]
    waveforms = [english.speak(text).waveform for text in texts]
    book = codebook(waveforms, 200)
    made = train_vocoder(encode(book, waveforms), Settings(200, steps=200))
    held_out = encode(book, [waveform for _, waveform in test_speech])
    heard = recogniser[0].transcribe(made.synthesize([units for units, _, _ in held_out]))
    assert word_error_rate(heard, [text for text, _ in test_speech]) < 0.12
