"""Results and journal after damage: each is mended from the other, what is lost is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from made import result
from tiny import tiny_search

from raystt.config import SearchConfig
from raystt.results import Proposal, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.reconcile import reconcile
from raystt.searching.searcher import StudySearcher

TRIALS = 6


class Searched:
    """A search of six trials of which four have a score, one runs and one was never asked for."""

    def __init__(self, path: Path) -> None:
        self.search: SearchConfig = tiny_search(path, trials=TRIALS)
        self.directory = RunDirectory(path)
        self.messages: list[str] = []
        searcher = StudySearcher(
            self.search, self.directory.journal, Ledger(self.search, self.directory, print)
        )
        configs = [searcher.suggest(f"t{n}") for n in range(5)]
        for n in (0, 1, 2, 4):
            searcher.on_trial_complete(f"t{n}", self.scored(configs[n], 10.0 + n).report())
        self.running = Proposal.from_config(configs[3])
        self.results = self.directory.read()
        self.params = [t.params for t in searcher.studies["es"].trials()]

    def scored(self, config: dict, asr_bleu: float) -> Result:
        proposal = Proposal.from_config(config)
        run = self.search.run_for(proposal.language, proposal.overrides)
        made = result(proposal.trial, asr_bleu, schedule=run.schedule)
        return dataclasses.replace(made, **proposal.identity())

    def resumed(self) -> StudySearcher:
        """Reconcile, and check what has to hold whatever was damaged."""
        reconcile(self.search, self.directory, self.messages.append)
        assert sorted(self.directory.read(), key=lambda r: r.trial) == self.results
        searcher = StudySearcher(self.search, self.directory.journal)
        finished = searcher.studies["es"].finished()
        assert [(t.number, t.value) for t in finished] == [
            (0, 10.0), (1, 11.0), (2, 12.0), (4, 14.0)
        ]  # fmt: skip
        assert [t.params for t in finished] == [self.params[n] for n in (0, 1, 2, 4)]
        return searcher

    def lines(self, path: Path) -> list[str]:
        return path.read_text().splitlines(keepends=True)


@pytest.fixture
def searched(tmp_path: Path) -> Searched:
    return Searched(tmp_path)


def goes_on(searched: Searched, searcher: StudySearcher) -> None:
    """The interrupted trial comes again as it was, then the last one; there are no others."""
    asked = [Proposal.from_config(searcher.suggest(f"t{n}")) for n in range(2)]
    assert asked[0] == searched.running and asked[1].trial == 5
    assert searcher.suggest("t2") is None


def test_what_agrees_is_left_alone(searched: Searched) -> None:
    before = searched.directory.journal.read_bytes()
    goes_on(searched, searched.resumed())
    assert searched.messages == []
    assert searched.directory.journal.read_bytes().startswith(before)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_cut_results_are_written_again_from_the_journal(searched: Searched, kept: int) -> None:
    path = searched.directory.results
    lines = searched.lines(path)
    path.write_text("".join(lines[:kept]) + lines[kept][:20])
    goes_on(searched, searched.resumed())
    assert len(searched.messages) == 4 - kept and "es#4" in searched.messages[-1]


def test_a_damaged_line_of_results_is_set_aside_and_written_again(searched: Searched) -> None:
    path = searched.directory.results
    lines = searched.lines(path)
    path.write_text(lines[0] + lines[1][:40] + "\0" + lines[1][41:] + "".join(lines[2:]))
    goes_on(searched, searched.resumed())
    assert "line 2" in searched.messages[0] and "results.jsonl.damaged" in searched.messages[0]
    assert "es#1" in searched.messages[1]


def test_a_result_whose_journal_line_a_kill_took_is_told(searched: Searched) -> None:
    path = searched.directory.journal
    lines = searched.lines(path)
    told = [n for n, line in enumerate(lines) if json.loads(line)["op_code"] == 6]
    path.write_text("".join(lines[: told[-1]]))  # the last trial's end
    goes_on(searched, searched.resumed())


@pytest.mark.parametrize("kept", [0, 2, 4, 20, 40])
def test_a_cut_journal_is_written_again_from_the_results(searched: Searched, kept: int) -> None:
    """Trial 3, which had not ended, is known from the files of Tune."""
    known = searched.directory.path / "tune" / "es-003" / "params.json"
    known.parent.mkdir(parents=True)
    known.write_text(json.dumps(searched.running.config()))
    path = searched.directory.journal
    lines = searched.lines(path)
    assert len(lines) > 45
    path.write_text("".join(lines[:kept]))
    goes_on(searched, searched.resumed())


def test_values_that_nobody_knows_are_named_and_drawn_again(searched: Searched) -> None:
    searched.directory.journal.unlink()
    searcher = searched.resumed()
    asked = [Proposal.from_config(searcher.suggest(f"t{n}")) for n in range(2)]
    assert [p.trial for p in asked] == [3, 5]
    assert any("es#3" in message and "lost" in message for message in searched.messages)


@pytest.mark.parametrize("line", [1, 5, 12, 30])
@pytest.mark.parametrize("damage", ["garbled", "missing"])
def test_a_damaged_middle_of_the_journal(searched: Searched, line: int, damage: str) -> None:
    known = searched.directory.path / "tune" / "es-003" / "params.json"
    known.parent.mkdir(parents=True)
    known.write_text(json.dumps(searched.running.config()))
    path = searched.directory.journal
    lines = searched.lines(path)
    lines[line] = lines[line][:10] + "\n" if damage == "garbled" else ""
    path.write_text("".join(lines))
    goes_on(searched, searched.resumed())
    if damage == "garbled":
        assert "journal.log.damaged" in searched.messages[0]


def test_both_gone_is_a_new_search(searched: Searched) -> None:
    searched.directory.journal.unlink()
    searched.directory.results.unlink()
    reconcile(searched.search, searched.directory, searched.messages.append)
    searcher = StudySearcher(searched.search, searched.directory.journal)
    assert searcher.missing == TRIALS and searched.messages == []
