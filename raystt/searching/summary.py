"""A search summed up: what its tables show, and what `summary.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raystt.config import Objective
from raystt.config.search import ConfirmConfig
from raystt.evaluation.jobs import Ceiling
from raystt.results import Result
from raystt.searching.fresh import Difference, Fresh
from raystt.searching.neighbours import Certificate
from raystt.searching.verdict import Answer


@dataclass(frozen=True)
class Line:
    """A run in the tables of a language.

    Attributes:
        result: What it scores on the split that trials are compared on.
        test: What it scores on the report split; None = it was not scored there.
        fresh: Mean score of its schedule on the report split over fresh seeds; None = it was not
            trained on them.
    """

    result: Result
    test: Result | None
    fresh: Fresh | None


@dataclass(frozen=True)
class LanguageSummary:
    """What is known of a language.

    Attributes:
        language: The source language.
        pairs: Training pairs, from the corpus card; None where nobody has counted them.
        signature: How all its scores came about; "" where there is none.
        results: Its trials on the split that they are compared on.
        references: Its fixed runs that are finished, by name, in the order to show.
        best: The proposal or ablation that is best on fresh seeds, else the highest score.
        answer: What the search answers; None where nothing was asked or scored.
        certificate: What is known of the neighbours of the best.
        pareto: The trials that none beats in score and in cost.
        ceilings: What the same evaluation gives to reference speech, by split.
    """

    language: str
    pairs: int | None
    signature: str
    results: tuple[Result, ...]
    references: Mapping[str, Line]
    best: Line | None
    answer: Answer | None
    certificate: Certificate | None
    pareto: tuple[Result, ...]
    ceilings: Mapping[str, Ceiling]

    @property
    def lines(self) -> tuple[Line, ...]:
        """The fixed runs, and then the best."""
        best = () if self.best is None else (self.best,)
        return (*self.references.values(), *best)

    @property
    def differences(self) -> Mapping[str, Difference]:
        """The best minus each reference, over fresh seeds."""
        return self.answer.differences if self.answer else {}

    @property
    def optimism(self) -> float | None:
        """See `Answer`."""
        return self.answer.optimism if self.answer else None


@dataclass(frozen=True)
class Summary:
    """A search, finished or not.

    Attributes:
        name: Its name.
        objective: The score that trials are compared by.
        split: The split that they are compared on.
        report_split: The split of the final scores; None, or the same as `split`, = there is none.
        workers: Processes, each with its device, that train a trial.
        wall_s: Seconds from the first start to the last end.
        overhead_s: Seconds of all trials that were no training, evaluation or waiting.
        languages: What is known of each.
        confirm: How what leads is confirmed; None where results were summed up without a search.
        missing: Trainings on fresh seeds that are still to come.
    """

    name: str
    objective: Objective
    split: str
    report_split: str | None
    workers: int
    wall_s: float
    overhead_s: float
    languages: tuple[LanguageSummary, ...]
    confirm: ConfirmConfig | None = None
    missing: int = 0

    @property
    def trials(self) -> int:
        """Finished trials of all languages."""
        return sum(len(one.results) for one in self.languages)

    @property
    def overhead_s_per_trial(self) -> float:
        """Mean overhead of a trial."""
        return self.overhead_s / self.trials if self.trials else 0.0

    @property
    def signature(self) -> str:
        """How the scores came about; several where languages differ."""
        return "; ".join(dict.fromkeys(filter(None, (one.signature for one in self.languages))))

    @property
    def has_test(self) -> bool:
        """Whether there is a split that chose nothing."""
        return self.report_split not in (None, self.split)

    def device_seconds(self, result: Result) -> float:
        """Return how long devices were busy with a training, in tenths of a second."""
        return round(result.train_seconds * self.workers, 1)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `summary.json`, plain data (docs/data_format.md)."""
        confirm = {**self.confirm.model_dump(), "missing": self.missing} if self.confirm else None
        return {
            "name": self.name,
            "wall_s": round(self.wall_s, 3),
            "trials": self.trials,
            "overhead_s_per_trial": round(self.overhead_s_per_trial, 4),
            "signature": self.signature,
            "objective": self.objective,
            "split": self.split,
            "report_split": self.report_split,
            "languages": {one.language: self._language(one) for one in self.languages},
            **({"confirm": confirm} if confirm else {}),
        }

    def _language(self, one: LanguageSummary) -> dict[str, Any]:
        answer, states = one.answer, [state for result in one.results for state in result.states]
        return {
            "verdict": answer.verdict if answer else None,
            "chosen": {"trial": answer.chosen.trial, "reference": answer.chosen.reference}
            if answer else None,
            "pairs": one.pairs,
            "trials": len(one.results),
            "diverged": sum(result.status == "diverged" for result in one.results),
            "signature": one.signature,
            "references": {name: self._line(line) for name, line in one.references.items()},
            "best": self._best(one, one.best) if one.best else None,
            "pareto": [
                {
                    "trial": result.trial,
                    self.objective: result.value(self.objective),
                    "device_seconds": self.device_seconds(result),
                }
                for result in one.pareto
            ],
            # No trial is judged before its end: signals from before it earned nothing
            # (docs/search.md). Segments that trials share were trained once.
            "fidelity": {
                "used": False,
                "rank_correlation": None,
                "segments_asked": len(states),
                "segments_trained": len(set(states)),
            },
            **(
                {"ceilings": {split: asdict(found) for split, found in one.ceilings.items()}}
                if one.ceilings else {}
            ),
        }  # fmt: skip

    def _line(self, line: Line) -> dict[str, Any]:
        result = line.result
        entry: dict[str, Any] = {
            "asr_bleu": result.asr_bleu,
            "ci": list(result.ci),
            "schedule": result.schedule.model_dump(),
            "trial": result.trial,
            "reference": result.reference,
            "status": result.status,
            "metrics": result.metrics,
        }
        if line.test is not None:
            test = line.test
            entry["test"] = {
                "asr_bleu": test.asr_bleu, "ci": list(test.ci), "sentences": test.sentences,
            }  # fmt: skip
        if line.fresh is not None:
            entry["fresh"] = self._scored(line.fresh)
        return entry

    def _best(self, one: LanguageSummary, best: Line) -> dict[str, Any]:
        entry = {
            **self._line(best),
            "overrides": dict(best.result.overrides),
            "trials": [best.result.trial],
        }
        if one.answer is not None and one.answer.best is not None:
            entry["difference"] = {
                name: self._scored(found) for name, found in one.differences.items()
            }
            entry["optimism"] = one.optimism
        if one.certificate is not None:
            rows = [
                {"knob": near.knob, "value": near.value, **self._scored(near.difference)}
                for near in one.certificate.neighbours
            ]
            entry["certificate"] = {"verdict": one.certificate.verdict, "neighbours": rows}
        return entry

    def _scored(self, found: Fresh | Difference) -> dict[str, Any]:
        """Return a score under the name of what it is."""
        values = asdict(found)
        return {self.objective: values.pop("score"), **values}
