"""A search's directory for a notebook: its trials, its best, its studies."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raystt import remote
from raystt.ranking import dataframe, latest
from raystt.results import Failure, Result
from raystt.searching.best import Best, config_of
from raystt.searching.directory import NoRun, RunDirectory
from raystt.searching.study import open_journal, study_name
from raystt.searching.summarise import summarise_search
from raystt.searching.summary import Summary
from raystt.searching.verdict import answers

if TYPE_CHECKING:
    import optuna
    import pandas
    from ray.tune import ExperimentAnalysis

_ENOUGH = 10  # proposals, for importances


class Run:
    """A search, finished or still running.

    Args:
        path: Its directory, wherever it lies now.

    Attributes:
        search: The config that it runs by.

    Raises:
        NoRun: There is no search there, or another version of raystt wrote it.
    """

    def __init__(self, path: Path | str) -> None:
        self._directory = RunDirectory(path)
        self.search = self._directory.load_config()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {len(self.results)} of {self.search.total_trials} trials)"

    @property
    def path(self) -> Path:
        """The directory."""
        return self._directory.path

    @property
    def running(self) -> bool:
        """Whether a search runs in it now, on this machine or another one."""
        return remote.is_held(self.path)

    @property
    def results(self) -> list[Result]:
        """The finished trials, scored on the split that they are compared on."""
        split = self.search.base.evaluation.split
        return [r for r in latest(self._directory.read()) if r.split == split]

    @property
    def failures(self) -> list[Failure]:
        """The trials that could not be run."""
        return self._directory.read_failures()

    @property
    def trials(self) -> pandas.DataFrame:
        """One row a finished trial, the same as results.csv; see `raystt.ranking.dataframe`."""
        return dataframe(
            self._directory.read(),
            split=self.search.base.evaluation.split,
            objective=self.search.objective,
        )

    @property
    def best(self) -> dict[str, Best]:
        """What to train with, by language, and what speaks for it."""
        return {
            language: Best(
                answer.verdict, answer.chosen, config_of(self.search, answer.chosen),
                self._directory.model(answer.chosen),
            )
            for language, answer in answers(self.search, self._directory).items()
        }  # fmt: skip

    @property
    def summary(self) -> Summary:
        """What is finished now, summed up; its `as_dict()` is what `summary.json` holds."""
        return summarise_search(self.search, self._directory)

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on last: versions, commit, the cluster's resources."""
        return self._directory.read_environment()

    @property
    def importances(self) -> dict[str, dict[str, float]]:
        """Share of what the searched keys explain of the best scores, by language (PED-ANOVA).

        Languages of fewer than ten scored proposals are left out.
        """
        proposed = Counter(r.language for r in self.results if r.reference is None)
        enough = [language for language, count in proposed.items() if count >= _ENOUGH]
        if not enough:
            return {}  # what computes them takes seconds to import
        import optuna

        importances = optuna.importance.get_param_importances
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():  # of keys that only some trials have
            warnings.simplefilter("ignore")
            return {
                name: dict(importances(self.study(name), evaluator=evaluator)) for name in enough
            }

    @property
    def experiment(self) -> ExperimentAnalysis:
        """Ray Tune's own view of the trials."""
        from ray.tune import ExperimentAnalysis

        return ExperimentAnalysis(str(self._directory.tune))

    def study(self, language: str) -> optuna.Study:
        """Return the Optuna study of a language.

        Raises:
            NoRun: The search has no such language, or has not begun it.
        """
        import optuna

        name = study_name(self.search, language)
        try:
            return optuna.load_study(study_name=name, storage=open_journal(self._directory.journal))
        except KeyError:
            known = ", ".join(self.search.languages)
            raise NoRun(
                f"{self._directory.journal}: no study of {language!r}; the search has {known}"
            ) from None
