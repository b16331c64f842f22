"""A little real speech that the speech tests share, spoken once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from raystt.readers.grammar import pairs
from raystt.recognition.sphinx import PocketSphinx
from raystt.speech.tts import EspeakSynthesizer, Voice

Spoken = list[tuple[str, np.ndarray]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def english() -> EspeakSynthesizer:
    """The target voice of the embedded corpus."""
    return EspeakSynthesizer(Voice("en-us", "f2"))


@pytest.fixture(scope="session")
def training_text() -> list[str]:
    """Target sentences of a small corpus."""
    return [pair.target for pair in pairs("es", "text", 2000, seed=1)]


@pytest.fixture(scope="session")
def test_speech(english: EspeakSynthesizer) -> Spoken:
    """(Sentence, waveform) of held-out sentences."""
    texts = [pair.target for pair in pairs("es", "test", 24, seed=1)]
    return [(text, english.speak(text).waveform) for text in texts]


@pytest.fixture(scope="session")
def recogniser(
    training_text: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[PocketSphinx, Path]:
    """A recogniser of the domain, and where it was written."""
    folder = tmp_path_factory.mktemp("asr")
    return PocketSphinx.build(training_text, folder), folder


@pytest.fixture(scope="session")
def word_error_rate() -> Callable[[list[str], list[str]], float]:
    """The share of reference words that are wrong, given hypotheses and references."""
    return _word_error_rate


def _word_error_rate(hypotheses: list[str], references: list[str]) -> float:
    """Return edit distance over words, as a share of the reference words."""
    errors = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        truth = reference.split()
        row = np.arange(len(truth) + 1)
        for word in hypothesis.split():
            same = np.array([word == other for other in truth], dtype=bool)
            step = np.minimum(row[1:] + 1, row[:-1] + ~same)
            row = np.concatenate([[row[0] + 1], step])
            for j in range(1, len(row)):
                row[j] = min(row[j], row[j - 1] + 1)
        errors += int(row[-1])
    return errors / sum(len(reference.split()) for reference in references)
