"""The recogniser: accuracy in its domain, order independence, silence, errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raystt.recognition.loading import load_recognizer
from raystt.recognition.protocols import ProtocolError
from raystt.recognition.recognizer import RecognizerError
from raystt.recognition.sphinx import PocketSphinx
from raystt.speech import SAMPLE_RATE

Built = tuple[PocketSphinx, Path]
Spoken = list[tuple[str, np.ndarray]]
ErrorRate = Callable[[list[str], list[str]], float]


@pytest.mark.slow
def test_held_out_sentences_are_understood(
    recogniser: Built, test_speech: Spoken, word_error_rate: ErrorRate
) -> None:
    heard = recogniser[0].transcribe([waveform for _, waveform in test_speech])
    assert word_error_rate(heard, [text for text, _ in test_speech]) < 0.1


@pytest.mark.slow
def test_transcript_depends_on_its_audio_alone(recogniser: Built, test_speech: Spoken) -> None:
    waveforms = [waveform for _, waveform in test_speech[:8]]
    loud = [np.clip(4 * waveform, -1, 1) for waveform in waveforms[:2]]
    heard = recogniser[0].transcribe(waveforms)
    mixed = recogniser[0].transcribe([*loud, *waveforms[::-1]])[:1:-1]
    fresh = [PocketSphinx.load(recogniser[1]).transcribe([w])[0] for w in waveforms[-2:]]
    assert heard == mixed
    assert heard[-2:] == fresh


@pytest.mark.slow
def test_what_is_hard_to_tell_does_not_depend_on_what_was_heard_before(
    recogniser: Built, test_speech: Spoken
) -> None:
    """Speech in noise, in which two readings are about as likely."""
    noise = np.random.default_rng(0)
    waveforms = [
        (w + 0.5 * np.std(w) * noise.standard_normal(len(w))).astype(np.float32)
        for _, w in test_speech[:12]
    ]
    forward, backward = (PocketSphinx.load(recogniser[1]) for _ in range(2))
    heard = forward.transcribe(waveforms)
    assert heard == backward.transcribe(waveforms[::-1])[::-1]
    assert any(heard)


def test_nothing_is_heard_in_nothing(recogniser: Built) -> None:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    silent = [np.zeros(n, np.float32) for n in (0, 1, SAMPLE_RATE // 20, 2 * SAMPLE_RATE)]
    assert recogniser[0].transcribe([*silent, 1e-3 * noise]) == [""] * 5
    assert recogniser[0].transcribe([]) == []


def test_unusable_audio(recogniser: Built) -> None:
    with pytest.raises(RecognizerError, match=r"waveform 1 of shape \[2, 4000\]"):
        recogniser[0].transcribe([np.zeros(0, np.float32), np.zeros((2, 4000), np.float32)])
    with pytest.raises(RecognizerError, match="finite"):
        recogniser[0].transcribe([np.full(4000, np.nan, np.float32)])


def test_words_without_pronunciation_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecognizerError, match="'42', 'xqzzt'"):
        PocketSphinx.build(["he sees 42 hats", "an xqzzt sees him"], tmp_path)
    with pytest.raises(RecognizerError, match="no training text"):
        PocketSphinx.build(["", "  "], tmp_path)


def test_signature_follows_the_text(recogniser: Built, tmp_path: Path) -> None:
    signature = recogniser[0].signature
    assert signature.startswith("pocketsphinx-5.") and "-en-us-fresh-trigram-" in signature
    assert PocketSphinx.load(recogniser[1]).signature == signature
    assert PocketSphinx.build(["we see one hat"], tmp_path).signature != signature


def test_a_large_vocabulary_is_searched_too(
    tmp_path: Path, test_speech: Spoken, word_error_rate: ErrorRate
) -> None:
    """Above some hundred words the search runs with its first pass."""
    import pocketsphinx

    words = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text().splitlines()
    others = [line.split()[0] for line in words[1000::200] if "(" not in line.split()[0]]
    built = PocketSphinx.build([text for text, _ in test_speech] + others, tmp_path)
    heard = built.transcribe([waveform for _, waveform in test_speech[:3]])
    assert word_error_rate(heard, [text for text, _ in test_speech[:3]]) < 0.2


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(RecognizerError, match=r"asr\.json is missing; .*raystt prepare"):
        PocketSphinx.load(tmp_path)


def test_its_protocol(recogniser: Built) -> None:
    assert recogniser[0].protocol.lowercase and recogniser[0].normaliser == "plain"
    assert recogniser[0].normalise("Well, DON'T!") == "well dont"


def test_loading_by_protocol(recogniser: Built, tmp_path: Path) -> None:
    def load(name: str, model: str | None = None, language: str = "en", fitted: bool = True):
        place = recogniser[1] if fitted else None
        return load_recognizer(name, model, language=language, fitted=place)

    assert load("pocketsphinx").signature == recogniser[0].signature
    named = str(tmp_path)
    with pytest.raises(ProtocolError, match="'kaldi' is unknown"):
        load("kaldi")
    with pytest.raises(RecognizerError, match="asr_model: .* is fitted to the corpus; remove it"):
        load("pocketsphinx", named)
    with pytest.raises(RecognizerError, match="holds no recogniser .*; set it to whisper"):
        load("pocketsphinx", fitted=False)
    with pytest.raises(RecognizerError, match="hears English, the corpus speaks 'de'"):
        load("fairseq-wav2vec2", language="de")
    # The model that is named is tried in place of the protocol's, for either protocol.
    for name in ("whisper", "fairseq-wav2vec2"):
        with pytest.raises(RecognizerError, match=rf"{tmp_path}: no .* can be loaded"):
            load(name, named, language="de")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, recogniser: Built) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(RecognizerError, match=r"pip install 'raystt\[demo\]'"):
        PocketSphinx.load(recogniser[1])
