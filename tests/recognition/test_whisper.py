"""Whisper: a tiny model of its architecture, loaded from disk; its normaliser against its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pretrained import whisper as whisper_model
from transformers import (
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from raystt.recognition.recognizer import RecognizerError
from raystt.recognition.whisper import WhisperRecognizer
from raystt.speech import SAMPLE_RATE


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper_model(tmp_path_factory.mktemp("models") / "tiny-whisper")


@pytest.fixture(scope="module")
def whisper(directory: Path) -> WhisperRecognizer:
    return WhisperRecognizer.load(str(directory), language="en")


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """Chirps and noise of different lengths, up to 1 s."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(20):
        time = np.arange(int(rng.integers(3000, 15000))) / SAMPLE_RATE
        tone = np.sin(2 * np.pi * (100 + 150 * number + 900 * time) * time)
        made.append((0.3 * tone + 0.02 * rng.standard_normal(len(time))).astype(np.float32))
    return made


@pytest.mark.slow
def test_a_text_depends_on_its_audio_alone(
    whisper: WhisperRecognizer, sounds: list[np.ndarray]
) -> None:
    """More than a batch, in any order and company, gives each its own text."""
    together = whisper.transcribe(sounds)
    assert len(set(together)) > 10  # else the order could not be told
    assert together == [whisper.transcribe([sound])[0] for sound in sounds]
    assert together[::-1] == whisper.transcribe(sounds[::-1])
    assert together == whisper.transcribe(sounds)


@pytest.mark.slow
def test_it_decodes_as_the_model_itself(
    whisper: WhisperRecognizer, directory: Path, sounds: list[np.ndarray]
) -> None:
    """Greedy, 16 tokens at most, after the prompt of language and task."""
    model = WhisperForConditionalGeneration.from_pretrained(directory).eval()
    processor = WhisperProcessor.from_pretrained(directory)
    names = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    prompt = processor.tokenizer.convert_tokens_to_ids(names)
    suppressed = model.generation_config.suppress_tokens
    features = processor(sounds[0], sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    written: list[int] = []
    with torch.inference_mode():
        for _ in range(16):
            ids = torch.tensor([[*prompt, *written]])
            logits = model(features, decoder_input_ids=ids).logits[0, -1]
            logits[suppressed] = -np.inf
            written.append(int(logits.argmax()))
            if written[-1] == processor.tokenizer.eos_token_id:
                break
    expected = processor.tokenizer.decode(written, skip_special_tokens=True).strip()
    assert whisper.transcribe([sounds[0]]) == [expected] != [""]


def test_nothing_is_heard_in_nothing(
    whisper: WhisperRecognizer, sounds: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    silent = [np.zeros(n, np.float32) for n in (0, 1, SAMPLE_RATE // 20, SAMPLE_RATE)]
    between = whisper.transcribe([silent[0], sounds[0], *silent, sounds[1], noise])
    assert between == ["", whisper.transcribe([sounds[0]])[0], *[""] * 4,
                       whisper.transcribe([sounds[1]])[0], ""]  # fmt: skip
    monkeypatch.setattr(type(whisper._model), "generate", None)
    assert whisper.transcribe([*silent, noise]) == [""] * 5
    assert whisper.transcribe([]) == []
    with pytest.raises(RecognizerError, match=r"waveform 1 of shape \[2, 4000\]"):
        whisper.transcribe([silent[0], np.zeros((2, 4000), np.float32)])


def test_long_audio_is_heard_in_windows(
    whisper: WhisperRecognizer, sounds: list[np.ndarray]
) -> None:
    first = np.concatenate([sounds[0], sounds[1], sounds[2]])[:SAMPLE_RATE]
    first = np.pad(first, (0, SAMPLE_RATE - len(first)))
    texts = whisper.transcribe([first, sounds[3]])
    # The rest of 50 ms behind them is not listened to.
    rest = sounds[5][: SAMPLE_RATE // 20]
    second = np.pad(sounds[3], (0, SAMPLE_RATE - len(sounds[3])))
    assert whisper.transcribe([np.concatenate([first, second, rest])]) == [" ".join(texts)]


def test_signature_names_all_that_matters(
    whisper: WhisperRecognizer, directory: Path, tmp_path: Path
) -> None:
    name, *rest = whisper.signature.split("|")
    assert name.startswith("tiny-whisper@") and len(name.partition("@")[2]) == 16
    assert str(directory.parent) not in whisper.signature
    assert rest == ["beam:1", "temperature:0.0", "language:en", "dtype:float32"]
    assert WhisperRecognizer.load(str(directory), language="en").signature == whisper.signature
    other = whisper_model(tmp_path / "tiny-whisper", spellings=False)
    assert name not in WhisperRecognizer.load(str(other), language="de").signature


# Texts and what Whisper's normalisers make of them: the English one, the basic one.
TRICKY = [
    ("Mr. Lee won't pay $20.50 for twenty-one colours, uh, [noise] (laughs) at 5%.",
     "mister lee will not pay $20.50 for 21 colors at 5%",
     "mr lee won t pay 20 50 for twenty one colours uh at 5 "),
    ("I'm sure she'd've gone.", "i am sure she would have gone", "i m sure she d ve gone "),
    ("two thousand and twenty five", "2025", "two thousand and twenty five"),
    ("nineteen eighty-four", "1984", "nineteen eighty four"),
    ("He said: \u201cCaf\u00e9 d\u00e9j\u00e0-vu\u201d \u2014 na\u00efve!",
     "he said cafe deja vu naive",
     "he said caf\u00e9 d\u00e9j\u00e0 vu na\u00efve "),
    ("1,000,000 people", "1000000 people", "1 000 000 people"),
    ("three point five percent", "3.5%", "three point five percent"),
    ("double oh seven", "007", "double oh seven"),
    ("twenty dollars and five cents", "$20.05", "twenty dollars and five cents"),
    ("Dr. St. John's colour", "doctor saint john is color", "dr st john s colour"),
    ("10:30 a.m.", "10 30 a m", "10 30 a m "),
    ("minus five degrees", "-5 degrees", "minus five degrees"),
    ("\ufb01ne Stra\u00dfe", "fine strasse", "fine stra\u00dfe"),
    ("", "", ""),
]  # fmt: skip


@pytest.mark.parametrize("text,english,basic", TRICKY)
def test_normalisers_are_whispers_own(
    directory: Path, whisper: WhisperRecognizer, text: str, english: str, basic: str
) -> None:
    tokenizer = WhisperTokenizer.from_pretrained(directory)
    assert whisper.normalise(text) == tokenizer.normalize(text) == english
    german = WhisperRecognizer(
        whisper._model, whisper._processor, "de", "x", WhisperTokenizer.basic_normalize
    )
    assert german.normalise(text) == basic


def test_another_language_has_the_basic_normaliser(directory: Path) -> None:
    german = WhisperRecognizer.load(str(directory), language="de")
    english = WhisperRecognizer.load(str(directory), language="en")
    assert (german.normaliser, english.normaliser) == ("whisper-basic", "whisper-english")
    for text, _, basic in TRICKY:
        assert german.normalise(text) == basic
    assert "language:de" in german.signature
    assert german._options["language"] == "de"


def test_a_model_of_english_alone(tmp_path: Path, sounds: list[np.ndarray]) -> None:
    directory = whisper_model(tmp_path / "tiny.en", multilingual=False)
    english = WhisperRecognizer.load(str(directory), language="en")
    assert english.transcribe(sounds[:2]) == english.transcribe(sounds[:2][::-1])[::-1]
    with pytest.raises(RecognizerError, match="hears English alone"):
        WhisperRecognizer.load(str(directory), language="de")


def test_what_cannot_be_loaded(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(RecognizerError, match="no Whisper model .*`evaluation.asr_model`"):
        WhisperRecognizer.load(str(tmp_path), language="en")
    with pytest.raises(RecognizerError, match="does not know the language 'xx'"):
        WhisperRecognizer.load(str(directory), language="xx")
    with pytest.raises(RecognizerError, match="has no normalizer.json"):
        WhisperRecognizer.load(
            str(whisper_model(tmp_path / "bare", spellings=False)), language="en"
        )
