"""The synthesizer: marks, dither, determinism, errors."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from raystt.speech import SAMPLE_RATE
from raystt.speech.tts import DITHER, EspeakSynthesizer, SpeechError, Voice

TEXTS = {
    "es": "el niño vio cincuenta y dos manzanas rojas en la montaña",
    "fr": "mon frère achète deux chapeaux près du fleuve",
    "de": "die schöne lehrerin kaufte sieben grüne äpfel auf dem markt",
    "en-us": "my brother paints two red tables in the garden every morning",
}


@pytest.mark.parametrize("language", TEXTS)
def test_marks_rise_within_words_and_audio(language: str) -> None:
    text = TEXTS[language]
    speech = EspeakSynthesizer(Voice(language)).speak(text)
    assert speech.sample_rate == SAMPLE_RATE
    assert speech.waveform.dtype == np.float32 and speech.waveform.ndim == 1
    words, seconds = (np.array(column) for column in zip(*speech.words, strict=True))
    assert words[0] == 0 and (np.diff(words) > 0).all() and words[-1] < len(text.split())
    assert seconds[0] >= 0 and (np.diff(seconds) > 0).all()
    assert seconds[-1] < len(speech.waveform) / SAMPLE_RATE
    # Accents take two bytes in UTF-8: positions must have been counted in characters.
    assert len(words) >= 0.7 * len(text.split())


def test_marks_are_where_words_sound(english: EspeakSynthesizer) -> None:
    """What is said before a word's mark is what is said without the word."""
    speech = english.speak("she sells seven white hats")
    starts = dict(speech.words)
    assert list(starts) == [0, 1, 2, 3, 4]
    shorter = len(english.speak("she sells").waveform) / SAMPLE_RATE
    assert starts[2] == pytest.approx(shorter, abs=0.3)


def test_fused_words_share_a_mark(english: EspeakSynthesizer) -> None:
    speech = english.speak("the hat is on the table")
    assert [word for word, _ in speech.words] == [0, 1, 2, 3, 5]


def test_loudness_and_dither(english: EspeakSynthesizer) -> None:
    waveform = english.speak("i see one book").waveform
    assert 0.1 < np.abs(waveform).max() < 1.1
    windows = waveform[: len(waveform) // 80 * 80].reshape(-1, 80).std(axis=1)
    assert windows.min() > 0.5 * DITHER  # no digital silence anywhere
    assert windows.min() < 3 * DITHER  # and no more noise than was meant


def test_audio_depends_on_voice_seed_and_text_alone(english: EspeakSynthesizer) -> None:
    text = "he wants three chairs"
    first = english.speak(text)
    english.speak("something quite different was said in between")
    EspeakSynthesizer(Voice("es", "m3")).speak("hola")
    again = EspeakSynthesizer(Voice("en-us", "f2")).speak("  he wants\nthree   chairs ")
    assert np.array_equal(first.waveform, again.waveform) and first.words == again.words
    for other in (
        Voice("en-us", "m3"),
        Voice("en-us", "f2", rate=220),
        Voice("en-us", "f2", 175, 80),
    ):
        assert not np.array_equal(first.waveform, EspeakSynthesizer(other).speak(text).waveform)
    assert not np.array_equal(
        first.waveform, EspeakSynthesizer(Voice("en-us", "f2"), seed=1).speak(text).waveform
    )


@pytest.mark.slow
def test_another_process_says_the_same(english: EspeakSynthesizer) -> None:
    program = (
        "import zlib; from raystt.speech.tts import EspeakSynthesizer, Voice; "
        "s = EspeakSynthesizer(Voice('en-us', 'f2')); "
        "print(zlib.crc32(s.speak('we carry ten bottles').waveform.tobytes()))"
    )
    here: dict[str, object] = {}
    exec(program.replace("print(", "here.update(crc="), {"here": here})
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(there.stdout) == here["crc"]


def test_threads_do_not_disturb_each_other() -> None:
    speakers = [EspeakSynthesizer(Voice(language)) for language in TEXTS]
    alone = [s.speak(t).waveform for s, t in zip(speakers, TEXTS.values(), strict=True)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(s.speak, t) for s, t in zip(speakers, TEXTS.values(), strict=True)]
        together = [job.result().waveform for job in jobs]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_signature_names_what_matters() -> None:
    signature = EspeakSynthesizer(Voice("en-us", "f2", rate=160), seed=7).signature
    assert signature.startswith("espeak-ng-1.")
    for part in ("en-us+f2", "rate160", "pitch50", "seed7", "dither0.001"):
        assert part in signature


@pytest.mark.parametrize("text", ["", "  \n", "...", "--"])
def test_nothing_to_speak(english: EspeakSynthesizer, text: str) -> None:
    with pytest.raises(SpeechError, match="nothing to speak"):
        english.speak(text)


def test_unknown_voices() -> None:
    with pytest.raises(SpeechError, match=r"language 'xx'; take one of: .*\bes\b"):
        EspeakSynthesizer(Voice("xx"))
    with pytest.raises(SpeechError, match=r"variant 'nobody' .*\bf2\b"):
        EspeakSynthesizer(Voice("es", "nobody"))


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SpeechError, match=r"pip install 'raystt\[demo\]'"):
        EspeakSynthesizer(Voice("es"))
