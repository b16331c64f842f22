"""What is asked of an evaluator and what it answers. Imports no torch: those who ask start fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raystt import remote
from raystt.config import EvaluationConfig, Objective, RunConfig
from raystt.evaluation.clips import write_clips
from raystt.files import write_atomic
from raystt.interleaving.rules import Interleaving
from raystt.lines import objects
from raystt.scores import Score, Statistics, asr_bleu, bleu, chrf


@dataclass(frozen=True)
class EvaluationJob:
    """What an evaluator needs to know.

    Attributes:
        model: Directory of the exported model.
        language: Source language.
        split: "dev" or "test".
        config: How to generate and score.
        interleaving: The format that the model was trained on.
    """

    model: str
    language: str
    split: str
    config: EvaluationConfig
    interleaving: Interleaving


@dataclass(frozen=True)
class CeilingJob:
    """Which ceiling to measure.

    Attributes:
        language: Source language.
        split: "dev" or "test".
        config: How to score, and how many sentences.
    """

    language: str
    split: str
    config: EvaluationConfig


@dataclass(frozen=True)
class Ceiling:
    """What the evaluation gives to reference speech of a split: no system can score more.

    `audio` is of the recordings, `resynthesis` of their units spoken again by the vocoder.
    """

    split: str
    audio: Score
    resynthesis: Score

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Ceiling:
        """Read what `dataclasses.asdict` gave and JSON kept."""
        audio, resynthesis = (
            Score(**{**kept[kind], "ci": tuple(kept[kind]["ci"])})
            for kind in ("audio", "resynthesis")
        )
        return cls(kept["split"], audio, resynthesis)


@dataclass(frozen=True)
class Sentence:
    """One evaluated utterance: what was meant, what was heard, and how much was generated.

    Attributes:
        id: Of the utterance.
        reference: Target text, normalised.
        hypothesis: What the recogniser heard, normalised.
        generated_source: The transcript that the model wrote first in chain of thought; None in
            the direct format.
        generated_target: Its translation, likewise.
        units: Target units that were spoken.
        stray_tokens: Generated tokens of the spoken part that are no target unit; they cannot be
            spoken and are dropped before vocoding.
        seconds: Length of the speech.
        utmos: Predicted naturalness, 1 to 5; None if it was not asked for or nothing was said.
        truncated: Whether the model did not end by itself within `evaluation.max_new_tokens`.
    """

    id: str
    reference: str
    hypothesis: str
    generated_source: str | None
    generated_target: str | None
    units: int
    stray_tokens: int
    seconds: float
    utmos: float | None
    truncated: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Hypotheses and their additive statistics.

    Attributes:
        language: Source language.
        split: "dev" or "test".
        sentences: Hypotheses and references.
        statistics: int64 `[sentences, 10]` of `raystt.scores.bleu`, of the recognised speech.
        chrf: int64 `[sentences, 18]` of `raystt.scores.chrf`, of the same texts.
        texts: int64 `[sentences, 10]` of the texts in the chain of thought, as written: `text_bleu`
            (translation) and `source_text_bleu` (transcript); empty in the direct format.
        signature: How ASR-BLEU came about.
        signatures: How each of `metrics` came about.
        seconds: What the evaluation took.
        clips: MP3 of the sentences that can be heard, see `raystt.evaluation.clips`; empty where
            nothing was said.
    """

    language: str
    split: str
    sentences: tuple[Sentence, ...]
    statistics: np.ndarray
    chrf: np.ndarray
    texts: Mapping[str, np.ndarray]
    signature: str
    signatures: Mapping[str, str]
    seconds: float
    clips: tuple[bytes, ...] = ()

    def score(self, config: EvaluationConfig) -> Score:
        """Return corpus ASR-BLEU with its interval and signature."""
        return asr_bleu(self.statistics, signature=self.signature, resamples=config.resamples)

    @property
    def truncated(self) -> float:
        """Share of the sentences that the model did not end by itself, in [0, 1]."""
        return sum(s.truncated for s in self.sentences) / max(len(self.sentences), 1)

    def metrics(self) -> dict[str, float]:
        """Return the scores beside ASR-BLEU.

        Returns:
            `chrf` of the recognised speech, `text_bleu` and `source_text_bleu` in chain of thought,
            and `utmos`, the mean over the sentences in which something was said.
        """
        found = {"chrf": chrf().point(self.chrf)}
        found |= {name: bleu().point(stats) for name, stats in self.texts.items()}
        natural = [s.utmos for s in self.sentences if s.utmos is not None]
        if natural:
            found["utmos"] = float(np.mean(natural))
        return found

    def write(self, folder: Path) -> None:
        """Write one JSON line a sentence, with its statistics of each score, and the clips."""
        known = {"asr_bleu": self.statistics, "chrf": self.chrf, **self.texts}
        lines = (
            json.dumps(
                {
                    **asdict(s),
                    "statistics": {name: rows[n].tolist() for name, rows in known.items()},
                },
                ensure_ascii=False,
            )
            for n, s in enumerate(self.sentences)
        )
        # The lines last: where they are, the clips are too.
        write_clips(clips_of(folder, self.split), self.clips)
        remote.update(clips_of(folder, self.split))
        write_atomic(hypotheses_of(folder, self.split), "".join(line + "\n" for line in lines))
        remote.update(hypotheses_of(folder, self.split))


def hypotheses_of(folder: Path, split: str) -> Path:
    """Return where the hypotheses of a split lie, in the folder of a run or of a trial."""
    return folder / f"hypotheses-{split}.jsonl"


def clips_of(folder: Path, split: str) -> Path:
    """Return the folder of the clips of a split, in the folder of a run or of a trial."""
    return folder / f"clips-{split}"


def read_statistics(path: Path, objective: Objective) -> Statistics:
    """Read what `Evaluation.write` wrote of a score: int64 `[sentences, columns]`."""
    return np.array([line["statistics"][objective] for line in objects(path)], np.int64)


@dataclass(frozen=True)
class Scored(Score):
    """The score of a run's model on a split, and what stands beside it.

    Attributes:
        model: Its directory.
        language: Source language.
        split: "dev" or "test".
        truncated: Share of the sentences that the model did not end within
            `evaluation.max_new_tokens`.
        metrics: The scores beside it, by name.
        metric_signatures: How these came about.
        ceiling: What reference speech of the split scores.
        seconds: What the evaluation took.
    """

    model: str
    language: str
    split: str
    truncated: float
    metrics: Mapping[str, float]
    metric_signatures: Mapping[str, str]
    ceiling: Ceiling
    seconds: float


def evaluate_run(
    run: RunConfig,
    model: Path,
    split: str,
    folder: Path,
    ask: Callable[[EvaluationJob | CeilingJob], Any],
) -> Scored:
    """Score a model of a run on a split, write its hypotheses, and measure the ceiling.

    Args:
        run: The run.
        model: Directory of the model.
        split: "dev" or "test".
        folder: Where hypotheses and clips go.
        ask: Does a job.
    """
    evaluation: Evaluation = ask(
        EvaluationJob(
            model=str(model),
            language=run.language,
            split=split,
            config=run.evaluation,
            interleaving=run.interleaving,
        )
    )
    evaluation.write(folder)
    score, metrics = evaluation.score(run.evaluation), evaluation.metrics()
    return Scored(
        model=str(model),
        language=run.language,
        split=split,
        **asdict(score),
        truncated=evaluation.truncated,
        metrics=metrics,
        metric_signatures={name: evaluation.signatures[name] for name in metrics},
        ceiling=ask(CeilingJob(run.language, split, run.evaluation)),
        seconds=evaluation.seconds,
    )
