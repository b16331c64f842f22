"""A Ray Tune searcher over the studies: which trial comes next, and what became of it.

It may be used in a `tune.Tuner` of one's own, with a trainable of one's own (`examples/`): a
trial's config is flat (`language`, `trial`, `reference`, `seed` and the dotted keys of the space),
and a trial reports `asr_bleu`, and `loss` and `step` as it goes, if it likes.

Tune's own snapshot is not used: the journal holds every trial, and a resumed search is a new Tune
run over what the journal still lacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.storages import InMemoryStorage
from ray.tune.search import Searcher

from raystt.config import SearchConfig
from raystt.results import Proposal, Result
from raystt.searching.study import LanguageStudy, own_journal

METRIC = "asr_bleu"
DIED = "its Tune actor died; see Ray's dashboard"

OnComplete = Callable[[Proposal, Mapping[str, Any] | None], bool]
"""Told of a trial's last report (None: its actor died); says whether it may be told its study."""


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the language that is furthest behind.

    Args:
        search: What to search.
        journal: File of Optuna's journal; None = in memory, lost with the process.
        on_complete: Told of each finished trial before its study is.

    Attributes:
        studies: The study of each language.
        completed: Trials that have ended since the searcher was made.
    """

    def __init__(
        self,
        search: SearchConfig,
        journal: Path | str | None = None,
        on_complete: OnComplete | None = None,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        storage = InMemoryStorage() if journal is None else own_journal(Path(journal))
        self.studies = {name: LanguageStudy(search, name, storage) for name in search.languages}
        self.completed = 0
        self._on_complete = on_complete
        self._asked = {name: len(study.finished()) for name, study in self.studies.items()}
        self._open: dict[str, Proposal] = {}

    @property
    def missing(self) -> int:
        """Trials that have no score yet: what a Tuner needs as `num_samples`."""
        return sum(
            study.search.trials_of(name) - len(study.finished())
            for name, study in self.studies.items()
        )

    def settle(self, result: Result) -> None:
        """Tell a score that was written down before a kill; call it before the first `suggest`."""
        study = self.studies[result.language]
        study.settle(result)
        self._asked[result.language] = len(study.finished())

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Refuse a space of Tune's, another metric and minimising: the studies bring their own."""
        return not config and metric in (None, METRIC) and mode in (None, "max")

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of the next trial; FINISHED when all languages have theirs."""
        for language in sorted(self._asked, key=lambda name: self._asked[name]):
            proposal = self.studies[language].ask()
            if proposal is not None:
                self._asked[language] += 1
                self._open[trial_id] = proposal
                return proposal.config()
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the loss of a trial that goes on."""
        loss, step = result.get("loss"), result.get("step")
        if isinstance(loss, float) and math.isfinite(loss) and isinstance(step, int):
            proposal = self._open[trial_id]
            self.studies[proposal.language].report(proposal.trial, step, loss)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell a trial's study what it scored, or that it failed."""
        proposal = self._open.pop(trial_id)
        self.completed += 1
        study = self.studies[proposal.language]
        report = None if error else result
        if self._on_complete is not None and not self._on_complete(proposal, report):
            study.fail(proposal.trial, DIED if report is None else str(report.get("error")))
            return
        score = None if report is None else report.get(METRIC)
        if report is None or score is None or not math.isfinite(score):
            study.fail(proposal.trial, DIED if report is None else f"it reported no {METRIC}")
            return
        study.tell(proposal.trial, float(score), report)

    def running(self) -> dict[str, Proposal]:
        """Return the trials that were handed out and are not finished, by label."""
        return {proposal.label: proposal for proposal in list(self._open.values())}

    def __getstate__(self) -> dict[str, Any]:
        """Keep out of Tune's snapshots, from which nothing is ever restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is written as the search goes."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed search reads the journal."""
