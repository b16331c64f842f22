"""Make the results and the journal of a search agree before it goes on, whatever happened to them.

The journal knows what every trial was and what became of it; `results.jsonl` knows what every
finished trial was and scored; `tune/` and `failures.jsonl` know what trials were that did not
finish. Each is mended from the others. What is damaged is set aside under a name in `.damaged`,
never deleted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from raystt.config import SearchConfig
from raystt.files import write_atomic
from raystt.lines import checked, salvage
from raystt.ranking import latest
from raystt.results import Proposal, Result, label_of
from raystt.searching.directory import RunDirectory
from raystt.searching.study import LanguageStudy, own_journal

OnMessage = Callable[[str], None]
_MOST_TRIALS = 1_000_000  # of a language; more are damage


class _Contradiction(Exception):
    """The journal is not that of the results; the text says where."""


def reconcile(search: SearchConfig, directory: RunDirectory, on_message: OnMessage) -> None:
    """Mend journal and results of a search; the directory must be claimed.

    Args:
        search: The search.
        directory: Its directory.
        on_message: Told of everything that had to be mended, and of what is lost.
    """
    _mend_lines(search, directory, on_message)
    results = {
        (r.language, r.trial): r
        for r in latest(directory.read())
        if r.split == search.base.evaluation.split and r.language in search.languages
    }
    try:
        studies = _open(search, directory)
        for language, study in studies.items():
            _compare(study, [r for r in results.values() if r.language == language])
    except Exception as error:  # whatever Optuna makes of a damaged line
        aside = _set_aside(directory.journal)
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        on_message(
            f"{directory.journal}: cannot be used ({reason}); it was set aside as {aside.name} and "
            f"is written again from {directory.results.name}"
        )
        studies = _open(search, directory)
    for language, study in studies.items():
        mine = {number: r for (name, number), r in results.items() if name == language}
        _write_lost_results(search, directory, study, mine, on_message)
        _write_lost_trials(directory, study, mine, on_message)


def _open(search: SearchConfig, directory: RunDirectory) -> dict[str, LanguageStudy]:
    storage = own_journal(directory.journal)
    return {
        name: LanguageStudy(search, name, storage, directory.artifacts) for name in search.languages
    }


def _mend_lines(search: SearchConfig, directory: RunDirectory, on_message: OnMessage) -> None:
    """Take lines out of the results and the failures that are none, or none of this search."""

    def accept(record: Proposal) -> bool:
        # Those on fresh seeds have a file of their own.
        fresh = path == directory.confirmation
        if record.trial >= _MOST_TRIALS or record.fresh != fresh:
            return False
        if (record.seed == search.seed) == fresh:
            return False
        try:
            search.run_for(record.language, dict(record.overrides))
        except (ValueError, LookupError):
            return False
        return True

    for path, kind in (
        (directory.results, "result"), (directory.confirmation, "result"),
        (directory.failures, "failure"),
    ):  # fmt: skip
        lines, bad = salvage(path, accept)
        if bad:
            aside = _set_aside(path)
            write_atomic(path, "".join(line + "\n" for line in lines))
            numbers = ", ".join(str(number) for number in bad)
            on_message(
                f"{path}: line {numbers} is no {kind} of this search; the file was set aside as "
                f"{aside.name}, the other lines stay"
            )


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.{count}.damaged")
    os.replace(path, aside)
    return aside


def _compare(study: LanguageStudy, results: list[Result]) -> None:
    """Refuse a journal that says something else than a result."""
    trials = study.trials()
    for result in results:
        if result.trial >= len(trials):
            continue
        trial, proposal = trials[result.trial], study.proposal(result.trial)
        if proposal is not None and proposal != result.proposal():
            raise _Contradiction(f"{result.label} was another trial")
        if trial.state == TrialState.WAITING and proposal is not None:
            raise _Contradiction(f"{result.label} has values and was never begun")
        if trial.state == TrialState.COMPLETE:
            if proposal is None or trial.params != study.params(result.proposal()):
                raise _Contradiction(f"{result.label} lacks values")
            if trial.value != result.value(study.search.objective):
                raise _Contradiction(f"{result.label} has another score")


def _write_lost_results(
    search: SearchConfig,
    directory: RunDirectory,
    study: LanguageStudy,
    results: dict[int, Result],
    on_message: OnMessage,
) -> None:
    """Write the lines of results again that only the journal knows."""
    for trial in study.finished():
        if trial.number in results:
            continue
        result = _kept(search, study, trial)
        label = label_of(study.language, trial.number)
        if result is None:
            on_message(f"{label}: its line is lost from {directory.results}")
            continue
        directory.append(result)
        results[trial.number] = result
        on_message(f"{label}: its line of {directory.results.name} was lost, and is there again")


def _kept(search: SearchConfig, study: LanguageStudy, trial: FrozenTrial) -> Result | None:
    """Return the result that the journal has kept, None where it has none or a damaged one."""
    try:
        report, proposal = study.report_of(trial.number), study.proposal(trial.number)
        if report is None or proposal is None:
            return None
        run = search.run_for(study.language, proposal.overrides)
        result = checked(Result.from_report(proposal, run.schedule, report))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return result if result.value(search.objective) == trial.value else None


def _write_lost_trials(
    directory: RunDirectory,
    study: LanguageStudy,
    results: dict[int, Result],
    on_message: OnMessage,
) -> None:
    """Tell the journal what it does not know of finished trials, and of those between them."""
    others = _known(directory, study.language)
    for number in range(max([*results, *others], default=-1) + 1):
        result = results.get(number)
        proposal = result.proposal() if result else others.get(number)
        trials = study.trials()
        if number >= len(trials):
            study.restore(proposal)
            if proposal is None:
                on_message(
                    f"{label_of(study.language, number)}: its values are lost; it is drawn again"
                )
        elif _unseen(trials[number]) and proposal is not None:
            study.fill(number, proposal)
        if result is not None:
            clips = directory.clips(result, result.split)
            study.tell(number, result.value(study.search.objective), result.report(), clips)


def _unseen(trial: FrozenTrial) -> bool:
    return not trial.state.is_finished() and "overrides" not in trial.user_attrs


def _known(directory: RunDirectory, language: str) -> dict[int, Proposal]:
    """Return trials of which Tune or a failure has kept what they were."""
    found = {f.trial: f.proposal() for f in directory.read_failures() if f.language == language}
    for path in sorted(directory.tune.glob(f"{language}-*/params.json")):
        try:
            proposal = Proposal.from_config(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # one that a kill cut short
        if proposal.language == language:
            found[proposal.trial] = proposal
    return found
