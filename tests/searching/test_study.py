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

from raystt.searching.study import LanguageStudy, open_journal


def open_study(path: Path, **changes) -> LanguageStudy:
    return LanguageStudy(tiny_search(path, **changes), "es", open_journal(path / "journal.log"))


def test_references_come_first_then_proposals(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=6)
    asked = [study.ask() for _ in range(6)]
    assert [p.reference for p in asked] == ["none", "paper", "constant", None, None, None]
    assert [p.number for p in asked] == list(range(6))
    assert asked[0].overrides == {
        "schedule.shape": "constant", "schedule.initial": 0.0, "schedule.final": 0.0,
        "schedule.hold": 0.0, "schedule.end": 1.0,
    }  # fmt: skip
    assert all(0.5 <= p.overrides["schedule.initial"] <= 1.0 for p in asked[3:])
    assert study.ask() is None


def test_a_score_that_was_written_before_the_kill_is_not_earned_again(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    told, written, lost = (study.ask() for _ in range(3))
    study.tell(told.number, 10.0, "complete")
    again = open_study(tmp_path)
    again.settle(told.number, 99.0, "complete")  # known: nothing changes
    again.settle(written.number, 12.0, "complete")
    assert [trial.value for trial in again.finished()] == [10.0, 12.0]
    asked = [again.ask() for _ in range(2)]
    assert [proposal.number for proposal in asked] == [lost.number, 3]
    assert again.ask() is None


def test_a_reference_inside_the_space_informs_the_sampler(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for _ in range(3):
        proposal = study.ask()
        study.tell(proposal.number, 10.0 + proposal.number, "complete")
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
        study.tell(study.ask().number, 1.0, "complete")
    params = [trial.params for trial in study.finished()]
    assert params[1]["schedule.end"] == 0.8 and params[4]["schedule.end"] == 0.9
    assert params[3] == {}


def test_fixed_runs_alone_end_the_study_and_resume(tmp_path: Path) -> None:
    alone = {"trials": None, "space": {}}
    study = open_ablated(tmp_path, **alone)
    first = study.ask()
    study.tell(first.number, 1.0, "complete")
    interrupted = study.ask()
    resumed = open_ablated(tmp_path, **alone)
    asked = [resumed.ask() for _ in range(5)]
    assert asked[0] == interrupted
    assert [p.reference for p in asked if p] == ["paper", "constant", "mask", "later"]
    assert asked[4] is None


def test_interrupted_trials_are_handed_out_again_with_their_own_values(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=6)
    first = [study.ask() for _ in range(5)]
    study.tell(first[0].number, 12.0, "complete")
    study.tell(first[3].number, 20.0, "complete")

    resumed = open_study(tmp_path, trials=6)
    assert [t.number for t in resumed.finished()] == [0, 3]
    again = [resumed.ask() for _ in range(4)]
    assert again[:3] == [first[1], first[2], first[4]]
    assert again[3].number == 5 and again[3].reference is None
    assert resumed.ask() is None


def test_a_resumed_sampler_does_not_repeat_itself(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=8)
    asked = [study.ask() for _ in range(5)]
    for proposal in asked:
        study.tell(proposal.number, 1.0, "complete")
    resumed = open_study(tmp_path, trials=8)
    assert resumed.ask().overrides not in [p.overrides for p in asked]


def test_telling_twice_changes_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    proposal = study.ask()
    study.tell(proposal.number, 12.0, "complete")
    study.tell(proposal.number, 99.0, "complete")
    study.fail(proposal.number, "late")
    assert [t.value for t in study.finished()] == [12.0]


def test_a_failed_reference_is_asked_again_on_resume(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    proposal = study.ask()
    study.fail(proposal.number, "disk full")
    assert not study.finished()
    again = open_study(tmp_path).ask()
    assert again.reference == "none" and again.number == 1


def test_a_changed_space_is_another_study(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.tell(study.ask().number, 5.0, "complete")
    assert not open_study(tmp_path, seed=2).finished()
    assert open_study(tmp_path, trials=9).finished()


def test_torn_journal_line_is_dropped(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.tell(study.ask().number, 5.0, "complete")
    with open(tmp_path / "journal.log", "a") as file:
        file.write('{"op_code": 4, "worker')
    resumed = open_study(tmp_path)
    assert [t.value for t in resumed.finished()] == [5.0]
    resumed.tell(resumed.ask().number, 6.0, "complete")
    assert [t.value for t in open_study(tmp_path).finished()] == [5.0, 6.0]


def test_diverged_is_a_score_of_zero(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.tell(study.ask().number, 0.0, "diverged")
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
        from raystt.searching.study import LanguageStudy, open_journal
        path = Path(sys.argv[1])
        study = LanguageStudy(
            tiny_search(path, trials=400), "es", open_journal(path / "journal.log"))
        print("ready", flush=True)
        while (proposal := study.ask()) is not None:
            study.tell(proposal.number, float(proposal.number), "complete")
            print(proposal.number, flush=True)
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
