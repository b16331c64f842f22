"""One language's Optuna study over journal storage, which is the truth of a search.

A trial is RUNNING in the journal from the moment its values are known until its score is. A
search that was killed finds its RUNNING trials there and runs them again under their own numbers,
with their own values; a finished trial is never touched again.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from raystt.config import SearchConfig
from raystt.results import METRICS, UNKNOWN, Proposal, Result
from raystt.searching.proposals import sampler_of

_REFERENCE, _REPEATS, _ORIGIN = "reference", "repeats", "origin"
_OVERRIDES, _ERROR, _REPORT = "overrides", "error", "raystt:report"
_ATTRIBUTES = (
    "status",
    "asr_bleu",
    "asr_bleu_low",
    "asr_bleu_high",
    *METRICS,
    "achieved_words",
    "tokens",
)


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


Repeat = Callable[[], tuple[str, dict[str, Any]] | None]
"""Gives label and point of a trial of another language, None = there is none to repeat."""


class LanguageStudy:
    """Ask and tell for one language.

    Args:
        search: The search.
        language: Its source language.
        storage: The search's journal, or another storage of Optuna's.
        artifacts: Directory of Optuna's artifacts; None = there are none.

    Attributes:
        repeated: Number of its trials that repeat one of another language.
    """

    def __init__(
        self,
        search: SearchConfig,
        language: str,
        storage: optuna.storages.BaseStorage,
        artifacts: Path | None = None,
    ) -> None:
        self.search, self.language, self._artifacts = search, language, artifacts
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # The directory of a run refuses another space, which one study could not hold.
        self._study = optuna.create_study(
            study_name=study_name(search, language), storage=storage, direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
        before = self.trials()
        self._sampler = self._study.sampler = sampler_of(search, language)
        begun = [t for t in before if t.state in (TrialState.COMPLETE, TrialState.RUNNING)]
        running = [t for t in begun if t.state == TrialState.RUNNING]
        seen = [t for t in running if _OVERRIDES in t.user_attrs]
        # Killed before all their values were drawn: nobody has seen them, they are drawn again.
        self._unseen = deque(t.number for t in running if _OVERRIDES not in t.user_attrs)
        # Those that could not be run come last: what fails again must not keep others waiting.
        self._failed = deque(t.number for t in seen if t.user_attrs.get(_ERROR))
        self._interrupted = deque(t.number for t in seen if not t.user_attrs.get(_ERROR))
        self._begun = len(begun)
        self._enqueued = any(t.state == TrialState.WAITING for t in before)  # before a kill
        self.repeated = sum(_REPEATS in t.user_attrs for t in before)
        scores = [t.value or 0.0 for t in begun if t.state == TrialState.COMPLETE]
        self._highest = max(scores, default=-math.inf)
        known = {t.user_attrs.get(_REFERENCE) for t in begun}
        self._missing = deque(n for n in search.fixed(language) if n not in known)

    def ask(self, repeat: Repeat = lambda: None) -> Proposal | None:
        """Return the next trial, None = no more in this session.

        Interrupted ones come first, then fixed ones, then proposals, and in the end those that an
        earlier session could not run.

        Args:
            repeat: Gives a trial of another language that is worth repeating before more is
                proposed (`transfer`).
        """
        if self._interrupted:
            return self.proposal(self._interrupted.popleft())
        if self._unseen:
            return self._draw(self._live(self._unseen.popleft()))
        if self._begun < self.search.trials_of(self.language):
            return self._new(repeat)
        return self.proposal(self._failed.popleft()) if self._failed else None

    def _new(self, repeat: Repeat) -> Proposal:
        """Begin a trial: a fixed one as long as there are, then what is repeated or proposed."""
        self._begun += 1
        if self._enqueued:
            self._enqueued = False
        elif self._missing:
            name = self._missing[0]
            # A reference within the space also informs the sampler.
            point = self.point(self.search.reference(name)) or {}
            self._study.enqueue_trial(point, user_attrs={_REFERENCE: name})
        elif repeated := repeat():
            label, point = repeated
            self._study.enqueue_trial(point, user_attrs={_REPEATS: label})
            self.repeated += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask()
        if self._missing:
            self._missing.popleft()
        return self._draw(trial)

    def _draw(self, trial: optuna.Trial) -> Proposal:
        """Give a begun trial its values: those of the fixed run it is, or what is suggested."""
        reference = trial.user_attrs.get(_REFERENCE)
        repeats = trial.user_attrs.get(_REPEATS)
        if reference is None:
            overrides = self.search.space.suggest(trial, self.language)
            trial.set_user_attr(_ORIGIN, repeats or self._sampler.origin(trial._trial_id))
        else:
            overrides = self.search.reference(reference)
            if self.point(overrides) is not None:
                self.search.space.suggest(trial, self.language)
        # Written last: a trial with overrides is complete and can be run again.
        trial.set_user_attr(_OVERRIDES, overrides)
        return self._proposal(trial.number, trial.user_attrs)

    def restore(self, proposal: Proposal | None) -> None:
        """Begin the trial of the next number again, of which the journal knows nothing.

        Args:
            proposal: What it was; None = nobody knows any more: it is drawn anew when asked for.
        """
        trial_id = self._storage.create_new_trial(self._study._study_id)
        self._begun += 1
        number = self._storage.get_trial_number_from_id(trial_id)
        if proposal is None:
            self._unseen.append(number)
        else:
            self.fill(number, proposal)

    def fill(self, number: int, proposal: Proposal) -> None:
        """Give a begun trial, of which the journal has lost the values, those of a proposal."""
        trial, point = self._trial(number), self.params(proposal)
        if trial.state == TrialState.WAITING:  # enqueued, and never begun
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            self._begun += 1
        if proposal.reference is not None:
            self._annotate(number, _REFERENCE, proposal.reference)
            self._missing = deque(n for n in self._missing if n != proposal.reference)
        if point:
            self._storage.set_trial_system_attr(trial._trial_id, "fixed_params", point)
            self.search.space.suggest(self._live(number), self.language)
        if "#" in proposal.origin:
            self._annotate(number, _REPEATS, proposal.origin)
        if proposal.origin:
            self._annotate(number, _ORIGIN, proposal.origin)
        self._annotate(number, _OVERRIDES, dict(proposal.overrides))
        self._interrupted.append(number)

    def params(self, proposal: Proposal) -> dict[str, Any]:
        """Return what Optuna knows of a proposal: its point in the space, nothing outside of it."""
        if proposal.reference is None:
            with suppress(KeyError):  # of a key by which the space was widened since
                return self.search.space.choose(self.language, proposal.overrides.__getitem__)
        return self.point(proposal.overrides) or {}

    def proposal(self, number: int) -> Proposal | None:
        """Return what a trial is; None if its values were never all drawn."""
        attributes = self._trial(number).user_attrs
        return self._proposal(number, attributes) if _OVERRIDES in attributes else None

    def _proposal(self, number: int, attributes: Mapping[str, Any]) -> Proposal:
        return Proposal(
            language=self.language,
            trial=number,
            reference=attributes.get(_REFERENCE),
            seed=self.search.seed,
            overrides=dict(attributes[_OVERRIDES]),
            origin=attributes.get(_ORIGIN, ""),
        )

    def point(self, overrides: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a run as a point of the space, None if it lies outside of it."""
        whole = self.search.run_for(self.language, overrides)
        run = whole.model_dump(mode="python")

        def value(key: str) -> Any:
            found: Any = run
            for name in key.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            if found is None or not _contains(self.search.space.root[key], found):
                raise _Outside
            return found

        try:
            point = self.search.space.choose(self.language, value)
        except _Outside:
            return None
        # What the space does not say must be what the base says, or it is another run: the score
        # of a control must not be taken for that of its schedule.
        return point if self.search.run_for(self.language, point) == whole else None

    def tried(self, point: Mapping[str, Any]) -> bool:
        """Say whether a trial like a point was begun before."""
        return self._sampler.known(self._study, point)

    def report(self, number: int, step: int, loss: float) -> None:
        """Record the loss at a step of a running trial, for the curves of Optuna's dashboard."""
        self._storage.set_trial_intermediate_value(self._trial(number)._trial_id, step, loss)

    def tell(
        self, number: int, score: float, report: Mapping[str, Any], clips: Sequence[Path] = ()
    ) -> None:
        """Record a trial's score; telling a finished trial again changes nothing.

        A diverged trial is a result, score 0: left out, it would be proposed again.

        Args:
            number: Its number.
            score: What is maximised.
            report: What else the trial reported; what a person looks for becomes user attributes,
                and all of it is kept, from which lost results are written again.
            clips: What can be heard of it: a fixed run and what leads take them as artifacts,
                which optuna-dashboard plays.
        """
        trial = self._trial(number)
        if trial.state.is_finished():
            return
        if trial.user_attrs.get(_ERROR):
            self._annotate(number, _ERROR, "")
        for key in _ATTRIBUTES:
            if report.get(key) is not None:
                self._annotate(number, key, report[key])
        kept = {key: report.get(key) for key in UNKNOWN}
        self._storage.set_trial_system_attr(trial._trial_id, _REPORT, kept)
        leads, self._highest = score > self._highest, max(score, self._highest)
        if trial.user_attrs.get(_REFERENCE) or leads:
            self._attach(trial, clips)
        self._study.tell(number, score)
        for queue in (self._interrupted, self._failed, self._unseen):
            if number in queue:
                queue.remove(number)

    def report_of(self, number: int) -> dict[str, Any] | None:
        """Return what a finished trial reported last, if the journal has kept it."""
        kept = self._trial(number).system_attrs.get(_REPORT)
        return None if kept is None else dict(kept)

    def fail(self, number: int, error: str) -> None:
        """Record that a trial could not be run; the next session tries it once more."""
        if not self._trial(number).state.is_finished():
            self._annotate(number, _ERROR, error[-2000:])

    def release(self, number: int) -> None:
        """Take back a trial that was interrupted through no fault of its own: it comes next."""
        self._interrupted.append(number)

    def note(self, result: Result) -> None:
        """Record a score on another split as an attribute of the study: trials are closed."""
        low, high = result.ci
        text = f"{result.asr_bleu:.1f} [{low:.1f}, {high:.1f}]"
        name = f"#{result.trial} {result.reference or 'best'}, {result.split}"
        self._study.set_user_attr(name, text)

    def _attach(self, trial: FrozenTrial, clips: Sequence[Path]) -> None:
        """Give a trial the clips that it does not have yet."""
        if self._artifacts is None or not clips:
            return
        self._artifacts.mkdir(exist_ok=True)
        store = FileSystemArtifactStore(str(self._artifacts))
        known = {one.filename for one in get_all_artifact_meta(trial, storage=self._storage)}
        for clip in clips:
            if clip.name not in known:
                upload_artifact(
                    artifact_store=store, file_path=str(clip), study_or_trial=trial,
                    storage=self._storage,
                )  # fmt: skip

    @property
    def _storage(self) -> BaseStorage:
        return self._study._storage

    def _annotate(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._trial(number)._trial_id, key, value)

    def _trial(self, number: int) -> FrozenTrial:
        storage, study = self._storage, self._study._study_id
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study, number))

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that have a score, in order."""
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, by number."""
        return self._study.get_trials(deepcopy=False)

    def _live(self, number: int) -> optuna.Trial:
        return optuna.Trial(self._study, self._trial(number)._trial_id)


class _Outside(Exception):
    """A run has a value that the space does not hold."""


def _contains(entry: Any, value: Any) -> bool:
    """Say whether an entry of the space can take a value."""
    if entry.choice is not None:
        return bool(entry.takes(value))
    low, high = entry.bounds
    if not low <= value <= high:
        return False
    return entry.step is None or abs((value - low) / entry.step % 1.0 - 0.5) > 0.5 - 1e-6
