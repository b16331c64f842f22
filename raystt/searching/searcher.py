"""A Ray Tune searcher over the studies: which trial comes next, and what became of it.

It may be used in a `tune.Tuner` of one's own, with a trainable of one's own (`examples/`): a
trial's config is flat (`language`, `trial`, `reference`, `seed` and the dotted keys of the space),
and a trial reports the search's objective, such as `asr_bleu`, and `loss` and `step` as it goes,
if it likes.

Tune's own snapshot is not used: the journal holds every trial, and a resumed search is a new Tune
run over what the journal still lacks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from optuna.storages import InMemoryStorage
from ray.tune.search import Searcher

from raystt.config import SearchConfig
from raystt.results import Proposal
from raystt.searching.directory import ARTIFACTS, RunDirectory
from raystt.searching.study import LanguageStudy, own_journal
from raystt.searching.transfer import Fresh, fresh_means, to_repeat

IN_A_ROW = 3
"""Trials that cannot be run, after which a search stops: what ails them ails all."""
_DIED = "its Tune actor died; see Ray's dashboard"


class Books(Protocol):
    """What is told of each trial that has ended, before its study is."""

    def scored(self, proposal: Proposal, report: Mapping[str, Any]) -> Sequence[Path]:
        """Take a score: the trial's last report. Return what can be heard of the trial."""

    def failed(self, proposal: Proposal, error: str) -> None:
        """Take a trial that could not be run; the next session tries it once more."""

    def interrupted(self, proposal: Proposal, error: str) -> None:
        """Take a trial that was interrupted through no fault of its own."""


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the language that is furthest behind.

    Args:
        search: What to search.
        journal: File of Optuna's journal, in the directory of the run; None = in memory, lost with
            the process.
        books: Told of each trial that has ended before its study is.

    Attributes:
        studies: The study of each language.
        failures: Labels of the trials that could not be run.
        held: Why no trial is handed out now; empty if there is nothing in the way.
        stopped: Why the search has stopped before its end; empty if it has not.
        concurrent: Most trials at a time; None = as many as Tune asks for.
    """

    def __init__(
        self,
        search: SearchConfig,
        journal: Path | str | None = None,
        books: Books | None = None,
    ) -> None:
        super().__init__(metric=search.objective, mode="max")
        storage = InMemoryStorage() if journal is None else own_journal(Path(journal))
        artifacts = None if journal is None else Path(journal).with_name(ARTIFACTS)
        self.studies = {
            name: LanguageStudy(search, name, storage, artifacts) for name in search.languages
        }
        # What was confirmed before the search grew; the rest is when all trials have ended.
        self._fresh: Fresh = lambda one: None
        if journal is not None:
            self._fresh = fresh_means(search, RunDirectory(Path(journal).parent))
        self.failures: list[str] = []
        self.held = self.stopped = ""
        self.concurrent: int | None = None
        self._books = books
        self._asked = {name: len(study.finished()) for name, study in self.studies.items()}
        self._open: dict[str, Proposal] = {}
        self._in_a_row = 0
        self._over = False

    @property
    def missing(self) -> int:
        """Trials that have no score yet."""
        return sum(
            study.search.trials_of(name) - len(study.finished())
            for name, study in self.studies.items()
        )

    @property
    def exhausted(self) -> bool:
        """Whether all trials were handed out and have ended."""
        return self._over and not self._open

    def stop(self, cause: str) -> None:
        """Hand out no more trials; those that run may end. The first cause stands."""
        self.stopped = self.stopped or cause

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Refuse a space of Tune's, another metric and minimising: the studies bring their own."""
        return not config and metric in (None, self.metric) and mode in (None, "max")

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of the next trial; FINISHED when all languages have theirs."""
        if self.stopped:
            return Searcher.FINISHED
        if self.held or len(self._open) >= (self.concurrent or math.inf):
            return None
        for language in sorted(self._asked, key=lambda name: self._asked[name]):
            study = self.studies[language]
            others = [other for other in self.studies.values() if other is not study]
            proposal = study.ask(functools.partial(to_repeat, study, others, self._fresh))
            if proposal is not None:
                self._asked[language] += 1
                self._open[trial_id] = proposal
                return proposal.config()
        if self._open:  # one of them may be interrupted, and comes again
            return None
        self._over = True
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the loss of a trial that goes on."""
        loss, step = result.get("loss"), result.get("step")
        if self.held:  # there may be no room for a line that cannot be written again
            return
        if isinstance(loss, float) and math.isfinite(loss) and isinstance(step, int):
            proposal = self._open[trial_id]
            self.studies[proposal.language].report(proposal.trial, step, loss)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell a trial's study what it scored, that it failed, or take it back."""
        proposal = self._open.pop(trial_id)
        study = self.studies[proposal.language]
        report: Mapping[str, Any] = {"status": "died"} if error or result is None else result
        status = report.get("status")
        # What beside ASR-BLEU is measured of a diverged training is nothing.
        score = 0.0 if status == "diverged" else report.get(self.metric)
        if status in ("interrupted", "died"):
            cause = _DIED if status == "died" else str(report.get("error"))
            if self._books is not None:
                self._books.interrupted(proposal, cause)
            study.release(proposal.trial)
            self._asked[proposal.language] -= 1
            if status == "interrupted":  # it has waited for what it lacks
                self.stop(cause)
        elif status == "failed" or score is None or not math.isfinite(score):
            cause = str(report.get("error") or f"it reported no {self.metric}")
            self.failures.append(proposal.label)
            if self._books is not None:
                self._books.failed(proposal, cause)
            study.fail(proposal.trial, cause)
        else:
            self._in_a_row = 0
            clips = () if self._books is None else self._books.scored(proposal, report)
            study.tell(proposal.trial, float(score), report, clips)
            return
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            last = f"{proposal.label}: {cause.splitlines()[0]}"
            self.stop(f"{self._in_a_row} trials in a row could not be run, the last {last}")

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
