"""Optuna's journal, alone or with the results: reconciled, it goes on with nothing run twice."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from made import result
from tiny import tiny_search

from raystt.errors import BadInput
from raystt.ranking import latest
from raystt.searching.directory import RunDirectory
from raystt.searching.reconcile import reconcile
from raystt.searching.study import LanguageStudy, own_journal
from tests.fuzz.harness import damaged, fuzzed, outcome, relined
from tests.fuzz.tables import TOKENS

_TRIALS = 6
_FINISHED = (0, 1, 2, 4)


@functools.cache
def _whole() -> tuple[bytes, bytes]:
    """The journal and the results of a search: four trials with a score, one that runs."""
    with tempfile.TemporaryDirectory() as place:
        directory = RunDirectory(place)
        search = tiny_search(Path(place), trials=_TRIALS)
        study = LanguageStudy(search, "es", own_journal(directory.journal))
        asked = [study.ask() for _ in range(5)]
        for number in _FINISHED:
            proposal = asked[number]
            assert proposal is not None
            run = search.run_for("es", proposal.overrides)
            one = result(number, 10.0 + number, schedule=run.schedule)
            one = dataclasses.replace(one, **proposal.identity())
            directory.append(one)
            study.tell(number, one.asr_bleu, one.report())
        return directory.journal.read_bytes(), directory.results.read_bytes()


def _lines(whole: bytes) -> st.SearchStrategy[bytes]:
    tokens = (*TOKENS, b'"op_code":4', b'"trial_id":1', b'"state":1', b'"state":3', b"9" * 12)
    return relined([whole], tokens) | damaged([whole], tokens)


def gone_on(directory: RunDirectory) -> None:
    """Reconcile twice, and ask for all that is missing."""
    search = tiny_search(directory.path, trials=_TRIALS)
    messages: list[str] = []
    before = directory.results.read_bytes()
    reconcile(search, directory, messages.append)
    found = latest(directory.read())
    if before == _RESULTS:
        assert [one.trial for one in found] == list(_FINISHED)
    after, again = directory.results.read_bytes(), []
    reconcile(search, directory, again.append)
    # What is lost is named each time; nothing is mended a second time.
    assert set(again) <= set(messages) and directory.results.read_bytes() == after
    study = LanguageStudy(search, "es", own_journal(directory.journal))
    finished = {trial.number: trial.value for trial in study.finished()}
    scored = {
        one.trial: one.asr_bleu for one in found if (one.language, one.split) == ("es", "dev")
    }
    assert scored.items() <= finished.items()
    asked = []
    while (proposal := study.ask()) is not None:
        asked.append(proposal.trial)
        assert len(asked) <= _TRIALS
        study.tell(proposal.trial, 1.0, {})
    assert len(set(asked)) == len(asked) and not set(asked) & set(finished)


def check(tmp_path: Path, reader: str, journal: bytes, results: bytes) -> None:
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    directory = RunDirectory(tmp_path)
    directory.journal.write_bytes(journal)
    directory.results.write_bytes(results)
    outcome(reader, lambda: gone_on(directory), BadInput, [tmp_path])


_JOURNAL, _RESULTS = _whole()


@fuzzed
@given(journal=_lines(_JOURNAL))
@example(journal=b"")
def test_journals(tmp_path: Path, journal: bytes) -> None:
    check(tmp_path, "journal", journal, _RESULTS)


@fuzzed
@given(journal=st.just(_JOURNAL) | _lines(_JOURNAL), results=_lines(_RESULTS))
@example(journal=_JOURNAL, results=b"")
@example(journal=_JOURNAL, results=_RESULTS.replace(b'"trial":4', b'"trial":4000000000'))
@example(journal=_JOURNAL, results=_RESULTS.replace(b'"schedule.end"', b'"no.such.key"'))
@example(journal=_JOURNAL, results=_RESULTS.replace(b'"seed":1', b'"seed":3'))
def test_journals_and_results(tmp_path: Path, journal: bytes, results: bytes) -> None:
    check(tmp_path, "journal and results", journal, results)
