"""Studies over a real Optuna journal: references first, replay idempotent, nothing run twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import optuna
import pytest
from tiny import tiny_search

from raystt.searching.study import LanguageStudy, own_journal


def open_study(path: Path, **changes) -> LanguageStudy:
    return LanguageStudy(tiny_search(path, **changes), "es", own_journal(path / "journal.log"))


def test_references_come_first_then_proposals(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=6)
    asked = [study.ask() for _ in range(6)]
    assert [p.reference for p in asked] == ["none", "paper", "constant", None, None, None]
    assert [p.trial for p in asked] == list(range(6))
    assert asked[0].overrides == {
        "schedule.shape": "constant", "schedule.initial": 0.0, "schedule.final": 0.0,
        "schedule.hold": 0.0, "schedule.end": 1.0,
    }  # fmt: skip
    assert all(0.5 <= p.overrides["schedule.initial"] <= 1.0 for p in asked[3:])
    assert study.ask() is None


def test_a_reference_inside_the_space_informs_the_sampler(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for _ in range(3):
        proposal = study.ask()
        study.tell(proposal.trial, 10.0 + proposal.trial, {"status": "complete"})
    none, paper, constant = study.finished()
    assert paper.params == {
        "schedule.shape": "staircase", "schedule.initial": 0.9, "schedule.end": 0.8
    }  # fmt: skip
    assert none.params == constant.params == {}


ABLATIONS = {
    "mask": {"set": {"interleaving.replacement": "mask"}},
    "elsewhere": {"set": {"schedule.end": 0.9}, "languages": ["fr"]},
    "later": {"set": {"schedule.end": 0.9}},
}


def open_ablated(path: Path, **changes) -> LanguageStudy:
    base = tiny_search(path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"]["fr"] = {"train": 12}
    changes = {"languages": ["es", "fr"], "ablations": ABLATIONS, "base": base, **changes}
    return open_study(path, **changes)


def test_ablations_follow_the_references(tmp_path: Path) -> None:
    study = open_ablated(tmp_path, trials=6)
    asked = [study.ask() for _ in range(6)]
    assert [p.reference for p in asked] == ["none", "paper", "constant", "mask", "later", None]
    assert asked[3].overrides == asked[1].overrides | {"interleaving.replacement": "mask"}
    assert study.ask() is None


def test_a_control_does_not_inform_the_sampler_of_its_schedule(tmp_path: Path) -> None:
    study = open_ablated(tmp_path, trials=6)
    for _ in range(5):
        study.tell(study.ask().trial, 1.0, {"status": "complete"})
    params = [trial.params for trial in study.finished()]
    assert params[1]["schedule.end"] == 0.8 and params[4]["schedule.end"] == 0.9
    assert params[3] == {}


def test_fixed_runs_alone_end_the_study_and_resume(tmp_path: Path) -> None:
    alone = {"trials": None, "space": {}}
    study = open_ablated(tmp_path, **alone)
    first = study.ask()
    study.tell(first.trial, 1.0, {"status": "complete"})
    interrupted = study.ask()
    resumed = open_ablated(tmp_path, **alone)
    asked = [resumed.ask() for _ in range(5)]
    assert asked[0] == interrupted
    assert [p.reference for p in asked if p] == ["paper", "constant", "mask", "later"]
    assert asked[4] is None


def test_interrupted_trials_are_handed_out_again_with_their_own_values(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=6)
    first = [study.ask() for _ in range(5)]
    study.tell(first[0].trial, 12.0, {"status": "complete"})
    study.tell(first[3].trial, 20.0, {"status": "complete"})

    resumed = open_study(tmp_path, trials=6)
    assert [t.number for t in resumed.finished()] == [0, 3]
    again = [resumed.ask() for _ in range(4)]
    assert again[:3] == [first[1], first[2], first[4]]
    assert again[3].trial == 5 and again[3].reference is None
    assert resumed.ask() is None


def test_a_resumed_sampler_does_not_repeat_itself(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=8)
    asked = [study.ask() for _ in range(5)]
    for proposal in asked:
        study.tell(proposal.trial, 1.0, {"status": "complete"})
    resumed = open_study(tmp_path, trials=8)
    assert resumed.ask().overrides not in [p.overrides for p in asked]


def test_telling_twice_changes_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    proposal = study.ask()
    study.tell(proposal.trial, 12.0, {"status": "complete"})
    study.tell(proposal.trial, 99.0, {"status": "complete"})
    study.fail(proposal.trial, "late")
    assert [t.value for t in study.finished()] == [12.0]


def test_what_failed_is_asked_once_a_session_last_and_as_itself(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=5)
    failed = study.ask()
    study.fail(failed.trial, "no such file")
    others = [study.ask() for _ in range(4)]
    assert [p.trial for p in others] == [1, 2, 3, 4] and study.ask() is None
    for proposal in others[:3]:
        study.tell(proposal.trial, 5.0, {"status": "complete"})
    resumed = open_study(tmp_path, trials=5)
    assert [resumed.ask() for _ in range(3)] == [others[3], failed, None]
    resumed.tell(failed.trial, 7.0, {"status": "complete"})
    assert resumed.finished()[0].user_attrs["error"] == ""


def test_what_was_taken_back_comes_next(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    first, _ = study.ask(), study.ask()
    study.release(first.trial)
    assert study.ask() == first


def test_more_trials_are_the_same_study(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.tell(study.ask().trial, 5.0, {"status": "complete"})
    assert open_study(tmp_path, trials=9).finished()


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_a_proposal_that_nobody_has_seen_keeps_its_number(tmp_path: Path, drawn: int) -> None:
    """A kill while a proposal is drawn: begun, some of its values drawn, or all."""
    study = open_study(tmp_path, trials=6)
    for _ in range(3):
        proposal = study.ask()
        study.tell(proposal.trial, 5.0, {"status": "complete"})
    begun = study._study.ask()
    values = {}
    for key in study.search.space.ordered()[:drawn]:
        values[key] = study.search.space.root[key].suggest(begun, key)
    resumed = open_study(tmp_path, trials=6)
    again = resumed.ask()
    assert again.trial == begun.number == 3
    assert {key: again.overrides[key] for key in values} == values
    assert [resumed.ask().trial for _ in range(2)] == [4, 5]
    assert resumed.ask() is None


@pytest.mark.parametrize("asked", [False, True])
def test_a_reference_that_nobody_has_seen_keeps_its_number(tmp_path: Path, asked: bool) -> None:
    study = open_study(tmp_path)
    none = study.ask()
    study._study.enqueue_trial(
        study.point(study.search.reference("paper")), user_attrs={"reference": "paper"}
    )
    if asked:
        study._study.ask()
    resumed = open_study(tmp_path)
    assert resumed.ask() == none
    paper, constant, proposal = (resumed.ask() for _ in range(3))
    assert (paper.trial, paper.reference) == (1, "paper")
    assert (constant.trial, constant.reference) == (2, "constant")
    assert (proposal.trial, proposal.reference) == (3, None)


def test_torn_journal_line_is_dropped(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.tell(study.ask().trial, 5.0, {"status": "complete"})
    with open(tmp_path / "journal.log", "a") as file:
        file.write('{"op_code": 4, "worker')
    resumed = open_study(tmp_path)
    assert [t.value for t in resumed.finished()] == [5.0]
    resumed.tell(resumed.ask().trial, 6.0, {"status": "complete"})
    assert [t.value for t in open_study(tmp_path).finished()] == [5.0, 6.0]


def test_diverged_is_a_score_of_zero(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.tell(study.ask().trial, 0.0, {"status": "diverged"})
    (trial,) = study.finished()
    assert trial.state == optuna.trial.TrialState.COMPLETE and trial.value == 0.0
    assert trial.user_attrs["status"] == "diverged"


@pytest.mark.slow
def test_killed_while_asking_and_telling(tmp_path: Path) -> None:
    """Kill a process that asks and tells at random moments; nothing finished is lost."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tiny import tiny_search
        from raystt.searching.study import LanguageStudy, own_journal
        path = Path(sys.argv[1])
        study = LanguageStudy(
            tiny_search(path, trials=400), "es", own_journal(path / "journal.log"))
        print("ready", flush=True)
        while (proposal := study.ask()) is not None:
            study.tell(proposal.trial, float(proposal.trial), {"status": "complete"})
            print(proposal.trial, flush=True)
        """
    )
    told: list[int] = []
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        told += [int(child.stdout.readline()) for _ in range(7)]
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
    assert len(told) == len(set(told)), "a finished trial was run twice"
    values = {t.number: t.value for t in open_study(tmp_path, trials=400).finished()}
    assert set(told) <= set(values)
    assert all(value == number for number, value in values.items())


def test_lost_trials_are_begun_again_as_what_they_were(tmp_path: Path) -> None:
    study = open_study(tmp_path / "a", trials=6)
    asked = [study.ask() for _ in range(5)]
    again = open_study(tmp_path / "b", trials=6)
    for proposal in (*asked[:3], None, asked[4]):
        again.restore(proposal)
    again.tell(1, 12.0, {"status": "complete"})
    before, now = study.trials(), again.trials()
    assert [t.params for t in now[:3]] == [t.params for t in before[:3]]
    assert now[4].params == before[4].params and not now[3].params
    order = [again.ask() for _ in range(6)]
    assert order[:3] == [asked[0], asked[2], asked[4]]
    assert (order[3].trial, order[3].reference) == (3, None)
    assert (order[4].trial, order[4].reference) == (5, None) and order[5] is None
