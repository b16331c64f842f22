"""One language's Optuna study over journal storage, which is the truth of a search.

A trial is RUNNING in the journal from the moment its values are known until its score is. A
search that was killed finds its RUNNING trials there and runs them again under their own numbers,
with their own values; a finished trial is never touched again.
"""

from __future__ import annotations

import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from raystt.config import SearchConfig

_REFERENCE, _OVERRIDES, _STATUS, _ERROR = "reference", "overrides", "status", "error"


@dataclass(frozen=True)
class Proposal:
    """A trial to be run: its number in the study, and how it differs from the base run.

    `reference` is the name of the fixed run that it is (a reference or an ablation), None for a
    proposal.
    """

    language: str
    number: int
    overrides: dict[str, Any]
    reference: str | None


def open_journal(path: Path) -> JournalStorage:
    """Open a search's journal; a last line torn by a kill is dropped first.

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
    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


class LanguageStudy:
    """Ask and tell for one language.

    Args:
        search: The search.
        language: Its source language.
        storage: The search's journal.
    """

    def __init__(self, search: SearchConfig, language: str, storage: JournalStorage) -> None:
        self.search, self.language = search, language
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # A study's distributions never change, so another space is another study.
        name = f"{search.name}/{language}/{search.fingerprint()}"
        self._study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
        before = self._study.get_trials(deepcopy=False)
        # The sampler's state is not stored: the same seed again would repeat its proposals.
        self._study.sampler = _sampler(search, zlib.crc32(language.encode()) + len(before))
        self._interrupted: list[FrozenTrial] = []
        for trial in before:
            if trial.state == TrialState.RUNNING and _OVERRIDES in trial.user_attrs:
                self._interrupted.append(trial)
            elif trial.state == TrialState.RUNNING:
                # Killed before its values were all drawn: nobody has seen it.
                self._study.tell(trial.number, state=TrialState.FAIL)
        self._asked = len(self.finished())

    def settle(self, number: int, score: float, status: str) -> None:
        """Tell the score of an interrupted trial that was written down before the kill."""
        if any(trial.number == number for trial in self._interrupted):
            self.tell(number, score, status)
            self._interrupted = [t for t in self._interrupted if t.number != number]
            self._asked = len(self.finished())

    def ask(self) -> Proposal | None:
        """Return the next trial: interrupted ones, fixed ones, then proposals; None = no more."""
        if self._asked >= self.search.trials_of(self.language):
            return None
        self._asked += 1
        if self._interrupted:
            frozen = self._interrupted.pop(0)
            return self._proposal(frozen.number, frozen.user_attrs)
        begun = self._references()
        missing = [name for name in self.search.fixed(self.language) if name not in begun]
        return self._ask_reference(missing[0]) if missing else self._ask_sampler()

    def _ask_reference(self, name: str) -> Proposal:
        overrides = self.search.reference(name)
        point = self._point(overrides)
        if point is not None:
            # A reference within the space also informs the sampler.
            self._study.enqueue_trial(point)
        trial = self._study.ask()
        if point is not None:
            self.search.space.suggest(trial, self.language)
        return self._register(trial, overrides, name)

    def _ask_sampler(self) -> Proposal:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask()
            overrides = self.search.space.suggest(trial, self.language)
        return self._register(trial, overrides, None)

    def _register(
        self, trial: optuna.Trial, overrides: dict[str, Any], reference: str | None
    ) -> Proposal:
        trial.set_user_attr(_REFERENCE, reference)
        # Written last: a trial with overrides is complete and can be run again.
        trial.set_user_attr(_OVERRIDES, overrides)
        return self._proposal(trial.number, {_REFERENCE: reference, _OVERRIDES: overrides})

    def _proposal(self, number: int, attributes: dict[str, Any]) -> Proposal:
        return Proposal(self.language, number, dict(attributes[_OVERRIDES]), attributes[_REFERENCE])

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

    def tell(self, number: int, score: float, status: str) -> None:
        """Record a trial's score; telling a finished trial again changes nothing.

        A diverged trial is a result, score 0: left out, it would be proposed again.
        """
        if self._trial(number).state.is_finished():
            return
        self._annotate(number, _STATUS, status)
        self._study.tell(number, score)

    def fail(self, number: int, error: str) -> None:
        """Record that a trial could not be run; it has no score."""
        if not self._trial(number).state.is_finished():
            self._annotate(number, _ERROR, error[-2000:])
            self._study.tell(number, state=TrialState.FAIL)

    def _annotate(self, number: int, key: str, value: str) -> None:
        storage = self._study._storage
        storage.set_trial_user_attr(self._trial(number)._trial_id, key, value)

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that have a score, in order."""
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def _references(self) -> set[str]:
        """Names of the fixed runs that are running or have a score."""
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        trials = self._study.get_trials(deepcopy=False, states=states)
        return {t.user_attrs[_REFERENCE] for t in trials if t.user_attrs.get(_REFERENCE)}


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
