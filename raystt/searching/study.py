"""One language's Optuna study over journal storage, which is the truth of a search.

A trial is RUNNING in the journal from the moment its values are known until its score is. A
search that was killed finds its RUNNING trials there and runs them again under their own numbers,
with their own values; a finished trial is never touched again.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from raystt.config import SearchConfig
from raystt.results import METRICS, Proposal, Result

_REFERENCE, _OVERRIDES, _ERROR = "reference", "overrides", "error"
_ATTRIBUTES = ("status", "asr_bleu_low", "asr_bleu_high", *METRICS, "achieved_words", "tokens")


def open_journal(path: Path) -> JournalStorage:
    """Open a search's journal to read it, also while the search runs."""
    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


def own_journal(path: Path) -> JournalStorage:
    """Open a search's journal to write it; a last line torn by a kill is dropped first.

    There is one writer, the driver, which holds the run's lock; so no lock left behind by a
    killed driver may be waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
    lock = Path(f"{path}.lock")
    if lock.is_symlink() or lock.exists():
        lock.unlink()
    return open_journal(path)


def study_name(search: SearchConfig, language: str) -> str:
    """Return the name of a language's study in the journal."""
    return f"{search.name} {language}"


class LanguageStudy:
    """Ask and tell for one language.

    Args:
        search: The search.
        language: Its source language.
        storage: The search's journal, or another storage of Optuna's.
    """

    def __init__(
        self, search: SearchConfig, language: str, storage: optuna.storages.BaseStorage
    ) -> None:
        self.search, self.language = search, language
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # The directory of a run refuses another space, which one study could not hold.
        self._study = optuna.create_study(
            study_name=study_name(search, language), storage=storage, direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
        before = self._study.get_trials(deepcopy=False)
        # The sampler's state is not stored: the same seed again would repeat its proposals.
        self._study.sampler = _sampler(search, zlib.crc32(language.encode()) + len(before))
        running = [trial for trial in before if trial.state == TrialState.RUNNING]
        self._interrupted = [trial for trial in running if _OVERRIDES in trial.user_attrs]
        # Killed before all their values were drawn: nobody has seen them, they are drawn again.
        self._unseen = [trial for trial in running if _OVERRIDES not in trial.user_attrs]
        self._asked = len(self.finished())

    def settle(self, result: Result) -> None:
        """Tell the score of an interrupted trial that was written down before the kill."""
        if any(trial.number == result.trial for trial in self._interrupted):
            self.tell(result.trial, result.asr_bleu, result.report())
            self._interrupted = [t for t in self._interrupted if t.number != result.trial]
            self._asked = len(self.finished())

    def ask(self) -> Proposal | None:
        """Return the next trial: interrupted ones, fixed ones, then proposals; None = no more."""
        if self._asked >= self.search.trials_of(self.language):
            return None
        self._asked += 1
        if self._interrupted:
            frozen = self._interrupted.pop(0)
            return self._proposal(frozen.number, frozen.user_attrs)
        if self._unseen:
            return self._draw(optuna.Trial(self._study, self._unseen.pop(0)._trial_id))
        begun = self._references()
        missing = [name for name in self.search.fixed(self.language) if name not in begun]
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if missing and not waiting:  # one that waits was enqueued before a kill
            # A reference within the space also informs the sampler.
            point = self._point(self.search.reference(missing[0])) or {}
            self._study.enqueue_trial(point, user_attrs={_REFERENCE: missing[0]})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._draw(self._study.ask())

    def _draw(self, trial: optuna.Trial) -> Proposal:
        """Give a begun trial its values: those of the fixed run it is, or what is suggested."""
        reference = trial.user_attrs.get(_REFERENCE)
        if reference is None:
            overrides = self.search.space.suggest(trial, self.language)
        else:
            overrides = self.search.reference(reference)
            if self._point(overrides) is not None:
                self.search.space.suggest(trial, self.language)
        attributes = {_REFERENCE: reference, _OVERRIDES: overrides}
        # Written last: a trial with overrides is complete and can be run again.
        trial.set_user_attr(_OVERRIDES, overrides)
        return self._proposal(trial.number, attributes)

    def _proposal(self, number: int, attributes: Mapping[str, Any]) -> Proposal:
        return Proposal(
            language=self.language,
            trial=number,
            reference=attributes.get(_REFERENCE),
            seed=self.search.seed,
            overrides=dict(attributes[_OVERRIDES]),
        )

    def _point(self, overrides: dict[str, Any]) -> dict[str, Any] | None:
        """Return a fixed run as a point of the space, None if it lies outside of it."""
        whole = self.search.run_for(self.language, overrides)
        run = whole.model_dump(mode="python")
        point: dict[str, Any] = {}
        for key in self.search.space.ordered():
            if not self.search.space.active(key, point, self.language):
                continue
            section, _, name = key.partition(".")
            value = run[section].get(name)
            if value is None or not _contains(self.search.space.root[key], value):
                return None
            point[key] = value
        # What the space does not say must be what the base says, or it is another run: the score
        # of a control must not be taken for that of its schedule.
        return point if self.search.run_for(self.language, point) == whole else None

    def report(self, number: int, step: int, loss: float) -> None:
        """Record the loss at a step of a running trial, for the curves of Optuna's dashboard."""
        self._storage.set_trial_intermediate_value(self._trial(number)._trial_id, step, loss)

    def tell(self, number: int, score: float, report: Mapping[str, Any]) -> None:
        """Record a trial's score; telling a finished trial again changes nothing.

        A diverged trial is a result, score 0: left out, it would be proposed again.

        Args:
            number: Its number.
            score: What is maximised.
            report: What else the trial reported; what a person looks for becomes user attributes.
        """
        if self._trial(number).state.is_finished():
            return
        for key in _ATTRIBUTES:
            if report.get(key) is not None:
                self._annotate(number, key, report[key])
        self._study.tell(number, score)

    def fail(self, number: int, error: str) -> None:
        """Record that a trial could not be run; it has no score."""
        if not self._trial(number).state.is_finished():
            self._annotate(number, _ERROR, error[-2000:])
            self._study.tell(number, state=TrialState.FAIL)

    def note(self, result: Result) -> None:
        """Record a score on another split as an attribute of the study: trials are closed."""
        low, high = result.ci
        text = f"{result.asr_bleu:.1f} [{low:.1f}, {high:.1f}]"
        name = f"#{result.trial} {result.reference or 'best'}, {result.split}"
        self._study.set_user_attr(name, text)

    @property
    def _storage(self) -> BaseStorage:
        return self._study._storage

    def _annotate(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._trial(number)._trial_id, key, value)

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that have a score, in order."""
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def _references(self) -> set[str]:
        """Names of the fixed runs that are running or have a score."""
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        trials = self._study.get_trials(deepcopy=False, states=states)
        seen = [t.user_attrs for t in trials if _OVERRIDES in t.user_attrs]
        return {attributes[_REFERENCE] for attributes in seen if _REFERENCE in attributes}


def _contains(entry: Any, value: Any) -> bool:
    """Say whether an entry of the space can take a value."""
    if entry.choice is not None:
        return bool(entry.takes(value))
    low, high = entry.bounds
    if not low <= value <= high:
        return False
    return entry.step is None or abs((value - low) / entry.step % 1.0 - 0.5) > 0.5 - 1e-6


def _sampler(search: SearchConfig, salt: int) -> BaseSampler:
    seed = (search.seed * 1_000_003 + salt) % 2**31
    if search.sampler.name == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            seed=seed,
            n_startup_trials=search.sampler.startup_trials,
            multivariate=True,
            group=True,  # conditional parameters are modelled with their condition
            constant_liar=True,  # trials still running count, or parallel ones would be alike
        )
