"""What is asked of an evaluator and what it answers. Imports no torch: those who ask start fast."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from raystt.bleu import Score, score
from raystt.config import EvaluationConfig
from raystt.thresholds import Interleaving


@dataclass(frozen=True)
class EvaluationJob:
    """What an evaluator needs to know.

    Attributes:
        model: Directory of the exported model.
        corpus: Directory of the prepared corpus.
        language: Source language.
        split: "dev" or "test".
        config: How to generate and score.
        interleaving: The format that the model was trained on.
    """

    model: str
    corpus: str
    language: str
    split: str
    config: EvaluationConfig
    interleaving: Interleaving


@dataclass(frozen=True)
class Sentence:
    """One evaluated utterance: what was meant, what was heard, and how much was generated.

    `stray_tokens` counts generated tokens that are no target unit; they cannot be spoken and are
    dropped before vocoding.
    """

    id: str
    reference: str
    hypothesis: str
    units: int
    stray_tokens: int
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Hypotheses and their additive statistics, int64 `[sentences, 10]`."""

    language: str
    split: str
    sentences: tuple[Sentence, ...]
    statistics: np.ndarray
    signature: str
    seconds: float

    def score(self, config: EvaluationConfig) -> Score:
        """Return corpus ASR-BLEU with its interval and signature."""
        return score(self.statistics, signature=self.signature, resamples=config.resamples)

    def write(self, path: Path) -> None:
        """Write one JSON line a sentence, with its statistics."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(self.sentences, self.statistics.tolist(), strict=True)
        text = "".join(
            json.dumps({**asdict(s), "statistics": row}, ensure_ascii=False) + "\n"
            for s, row in rows
        )
        path.write_text(text, encoding="utf-8")
