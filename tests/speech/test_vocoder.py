"""The vocoder: fitting, storing, odd sequences, errors, and intelligible resynthesis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raystt.corpus.grammar import pairs
from raystt.speech.asr import PocketSphinx
from raystt.speech.tts import EspeakSynthesizer
from raystt.speech.units import UnitEncoder, deduplicate
from raystt.speech.vocoder import VOCODERS, ConvVocoder, Utterance, VocoderError, vocoder

CLUSTERS, FRAME = 50, 960
Spoken = list[tuple[str, np.ndarray]]


def encode(encoder: UnitEncoder, waveforms: list[np.ndarray]) -> list[Utterance]:
    return [(*deduplicate(encoder.encode(waveform)), waveform) for waveform in waveforms]


@pytest.fixture(scope="module")
def utterances(test_speech: Spoken) -> list[Utterance]:
    waveforms = [waveform for _, waveform in test_speech]
    return encode(UnitEncoder.fit(waveforms, CLUSTERS, seed=0), waveforms)


@pytest.fixture(scope="module")
def fitted(utterances: list[Utterance]) -> tuple[ConvVocoder, list[tuple[int, int, float]]]:
    log: list[tuple[int, int, float]] = []
    made = ConvVocoder.fit(
        utterances,
        clusters=CLUSTERS,
        steps=30,
        hidden=32,
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
        small = {"clusters": CLUSTERS, "steps": 3, "hidden": 16}
        return ConvVocoder.fit(utterances, seed=seed, **small).signature  # type: ignore[arg-type]

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


def test_whatever_a_language_model_generates(fitted: Fitted) -> None:
    random = np.random.default_rng(0).integers(0, CLUSTERS, 2000)
    given = [np.zeros(0, np.int64), np.array([7]), np.full(300, 3), np.arange(CLUSTERS), random]
    made = fitted[0].synthesize(given)
    assert len(made[0]) == 0 and made[0].dtype == np.float32
    for units, waveform in zip(given, made, strict=True):
        assert np.isfinite(waveform).all()
        assert len(units) * FRAME <= len(waveform) <= len(units) * FRAME * 10
    assert fitted[0].synthesize([]) == []


def test_offset_of_the_codebook(fitted: Fitted, utterances: list[Utterance]) -> None:
    moved = [(units + 100, durations, waveform) for units, durations, waveform in utterances]
    made = ConvVocoder.fit(moved, clusters=CLUSTERS, offset=100, steps=30, hidden=32)
    same = made.synthesize([moved[0][0]])[0]
    assert np.array_equal(same, fitted[0].synthesize([utterances[0][0]])[0])
    with pytest.raises(VocoderError, match="unit 99 is not .* holds 100 to 149"):
        made.synthesize([np.array([99])])


def test_strange_units(fitted: Fitted) -> None:
    with pytest.raises(VocoderError, match="sentence 1: unit 50 is not .* holds 0 to 49"):
        fitted[0].synthesize([np.array([1]), np.array([3, 50])])
    with pytest.raises(VocoderError, match="unit -1"):
        fitted[0].synthesize([np.array([-1])])


def test_unfitting_training_data(utterances: list[Utterance]) -> None:
    units, durations, waveform = utterances[0]
    cases: dict[str, list[Utterance]] = {
        "no units to fit": [(units[:0], durations[:0], waveform)],
        "sentence 1: .* durations": [utterances[0], (units, durations[1:], waveform)],
        "sentence 0: durations of .* do not fit": [(units, durations, waveform[:4000])],
    }
    for message, given in cases.items():
        with pytest.raises(VocoderError, match=message):
            ConvVocoder.fit(given, clusters=CLUSTERS, steps=1)
    with pytest.raises(VocoderError, match="training sentence 0: unit"):
        ConvVocoder.fit(utterances, clusters=3, steps=1)


def test_units_of_20_ms_and_a_frame_that_does_not_divide() -> None:
    waveform = 0.1 * np.random.default_rng(0).standard_normal(3200).astype(np.float32)
    given = [(np.arange(10), np.ones(10, np.int64), waveform)]
    made = ConvVocoder.fit(given, clusters=10, frame_seconds=0.02, steps=2, hidden=8)
    assert [len(w) for w in made.synthesize([np.array([4]), np.arange(10)])] == [320, 3200]
    with pytest.raises(VocoderError, match="frame of 961 samples"):
        ConvVocoder.fit(given, clusters=10, frame_seconds=961 / 16000, steps=1)


def test_missing_files_and_names(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="no readable vocoder .*raystt prepare"):
        ConvVocoder.load(tmp_path)
    fitted[0].save(tmp_path)
    (tmp_path / "vocoder.safetensors").write_bytes(b"broken")
    with pytest.raises(VocoderError, match="no readable vocoder"):
        ConvVocoder.load(tmp_path)
    with pytest.raises(VocoderError, match="'hifigan' is unknown; take one of: conv"):
        vocoder("hifigan")
    assert vocoder("conv") is VOCODERS["conv"] is ConvVocoder


@pytest.mark.slow
def test_resynthesis_of_held_out_sentences_is_understood(
    english: EspeakSynthesizer,
    recogniser: tuple[PocketSphinx, Path],
    test_speech: Spoken,
    word_error_rate: Callable[[list[str], list[str]], float],
) -> None:
    texts = [pair.target for pair in pairs("es", "train", 300, seed=1)]
    waveforms = [english.speak(text).waveform for text in texts]
    encoder = UnitEncoder.fit(waveforms, 200, seed=0)
    made = ConvVocoder.fit(encode(encoder, waveforms), clusters=200, steps=200)
    held_out = encode(encoder, [waveform for _, waveform in test_speech])
    heard = recogniser[0].transcribe(made.synthesize([units for units, _, _ in held_out]))
    assert word_error_rate(heard, [text for text, _ in test_speech]) < 0.12
