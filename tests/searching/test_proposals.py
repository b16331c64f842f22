"""What is proposed, through real studies: an even sequence or a sampler, nothing twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import confirm, result
from optuna.storages import InMemoryStorage
from tiny import tiny_search

from raystt.results import Proposal
from raystt.searching import proposals
from raystt.searching.claim import claimed
from raystt.searching.points import SAME_CURVE
from raystt.searching.searcher import StudySearcher
from raystt.searching.study import LanguageStudy, own_journal
from raystt.searching.transfer import to_repeat

MIXED = {
    "schedule.shape": {"choice": ["knots", "polynomial"]},
    "schedule.initial": {"float": [0.5, 1.0]},
    "schedule.power": {"float": [0.5, 2.0], "log": True, "when": {"schedule.shape": "polynomial"}},
    "schedule.end": {"float": [0.5, 1.0], "step": 0.1},
    "training.batch_utterances": {"int": [2, 4]},
    "interleaving.span_mean": {"choice": [1.0, 3.0]},
}


def open_study(path: Path, name: str, storage: Any = None, **changes: Any) -> LanguageStudy:
    changes = {"sampler": name, "trials": 20, **changes}
    search = tiny_search(path, references=[], **changes)
    return LanguageStudy(search, "es", storage or InMemoryStorage())


def run(study: LanguageStudy, count: int) -> list[Proposal]:
    """Run trials of which those with a high initial ratio score best."""
    asked = []
    for _ in range(count):
        proposal = study.ask()
        assert proposal is not None
        study.tell(proposal.trial, 20 * float(proposal.overrides["schedule.initial"]), {})
        asked.append(proposal)
    return asked


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "nsgaii", "random", "sobol", "auto"])
def test_every_sampler_proposes_valid_and_different_trials(tmp_path: Path, name: str) -> None:
    study = open_study(tmp_path, name, space=MIXED)
    asked = run(study, 20)
    origins = [proposal.origin for proposal in asked]
    if name == "random":
        assert origins == ["random"] * 20
    elif name == "sobol":
        assert origins == ["sobol"] * 20
    else:
        assert origins.count("tpe" if name == "auto" else name) >= 14
    assert len({str(sorted(p.overrides.items())) for p in asked}) == 20
    for proposal in asked:
        study.search.run_for("es", proposal.overrides)
        assert ("schedule.power" in proposal.overrides) == (
            proposal.overrides["schedule.shape"] == "polynomial"
        )
        assert proposal.overrides["schedule.end"] in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert study.ask() is None


@pytest.mark.parametrize(("name", "count"), [("gp", 8), ("cmaes", 40), ("nsgaii", 120)])
def test_fixed_runs_outside_the_space_leave_a_sampler_what_it_models(
    tmp_path: Path, name: str, count: int
) -> None:
    """What it proposes in the end is nearer to the best than what is drawn at random."""

    def last(sampler: str) -> float:
        search = tiny_search(
            tmp_path, references=["none"], sampler=sampler, trials=count, seed=3,
            space={"training.learning_rate": {"float": [1.0e-4, 1.0e-2], "log": True},
                   "training.dropout": {"float": [0.0, 0.5]},
                   "schedule.end": {"float": [0.5, 1.0]}},
        )  # fmt: skip
        study, far = LanguageStudy(search, "es", InMemoryStorage()), []
        assert (first := study.ask()) and study.point(first.overrides) is None
        study.tell(first.trial, 5.0, {})
        while proposal := study.ask():
            assert proposal.origin == sampler
            training = study.search.run_for("es", proposal.overrides).training
            rate = np.log10(training.learning_rate / 7.0e-3) / 2
            far.append(float(np.hypot(rate, (training.dropout - 0.1) / 0.5)))
            study.tell(proposal.trial, 20 * (1 - far[-1]), {})
        return float(np.mean(far[-(count // 4) :]))

    assert last(name) < 0.8 * last("random")


def test_few_trials_are_points_of_the_sequence_alone(tmp_path: Path) -> None:
    study = open_study(tmp_path, "auto", trials=8)
    asked = run(study, 8)
    assert {proposal.origin for proposal in asked} == {"sobol"}
    # What makes it worth having: of eight points each half, quarter and eighth has its share.
    for key in ("schedule.initial", "schedule.end"):
        eighths = [int((float(p.overrides[key]) - 0.5) / 0.5 * 8) for p in asked]
        assert sorted(eighths) == list(range(8))
    assert sum(p.overrides["schedule.shape"] == "linear" for p in asked) == 4


def test_a_resumed_study_goes_on_in_the_sequence(tmp_path: Path) -> None:
    whole = run(open_study(tmp_path, "sobol"), 6)
    journal = tmp_path / "journal.log"
    first = run(open_study(tmp_path, "sobol", own_journal(journal)), 2)
    rest = run(open_study(tmp_path, "sobol", own_journal(journal)), 4)
    assert [p.overrides for p in (*first, *rest)] == [p.overrides for p in whole]


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "nsgaii", "random", "sobol", "auto"])
def test_a_killed_search_proposes_what_an_undisturbed_one_does(tmp_path: Path, name: str) -> None:
    """Killed after any line that the journal has of the second last trial."""
    # The first 50 trials of nsgaii are a generation drawn at random; the next selects its parents.
    count = {"nsgaii": 52, "gp": 6}.get(name, 14)
    journal, told = tmp_path / "journal.log", [0]
    study = open_study(tmp_path, name, own_journal(journal), space=MIXED, trials=count)
    asked = []
    for _ in range(count):
        asked += run(study, 1)
        told.append(len(journal.read_bytes().splitlines()))
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in range(told[count - 2], told[count - 1]):
        cut = tmp_path / f"{kept}.log"
        cut.write_bytes(b"".join(lines[:kept]))
        resumed = open_study(tmp_path, name, own_journal(cut), space=MIXED, trials=count)
        done = len(resumed.finished())
        assert run(resumed, count - done) == asked[done:], f"killed after line {kept}"


def test_a_search_that_is_restarted_for_each_trial_proposes_the_same(tmp_path: Path) -> None:
    """Two languages in turns, which repeat what leads in the other one."""
    base = tiny_search(tmp_path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"]["fr"] = {"train": 12}
    search = tiny_search(
        tmp_path, languages=["es", "fr"], references=["paper"], trials=9, base=base
    )

    def trials(journal: Path, restarted: bool) -> list[dict[str, Any]]:
        searcher, asked = StudySearcher(search, journal), []
        for n in range(18):
            config = searcher.suggest(f"t{n}")
            if restarted:
                searcher = StudySearcher(search, journal)
                assert searcher.suggest(f"t{n}") == config  # killed while it was trained
            assert isinstance(config, dict)
            searcher.on_trial_complete(f"t{n}", {"asr_bleu": 20 * config["schedule.initial"]})
            asked.append(config)
            if restarted:
                searcher = StudySearcher(search, journal)
        return asked

    whole = trials(tmp_path / "a.log", restarted=False)
    assert any("#" in config["origin"] for config in whole)
    assert trials(tmp_path / "b.log", restarted=True) == whole


def test_what_hardly_differs_is_not_proposed_again(tmp_path: Path) -> None:
    """TPE draws closer and closer around the best; what it would repeat goes elsewhere."""
    space = {"schedule.initial": {"float": [0.88, 0.92]}, "schedule.end": {"float": [0.5, 1.0]}}
    study = open_study(tmp_path, "tpe", space=space, trials=24)
    asked = run(study, 24)
    curves = [study.search.run_for("es", p.overrides).schedule.values(0, 50, 50) for p in asked]
    drawn = [n for n, p in enumerate(asked) if p.origin == "tpe"]
    near = [
        (a, b) for b in drawn for a in range(b) if np.abs(curves[a] - curves[b]).mean() < SAME_CURVE
    ]
    assert drawn and not near
    assert "sobol" in {p.origin for p in asked}  # where all that it drew was known


FEW = {
    "schedule.shape": {"choice": ["linear", "polynomial"]},
    "schedule.initial": {"choice": [0.5, 0.7, 0.9]},
    "schedule.end": {"float": [0.5, 0.9], "step": 0.4},
    "schedule.power": {"choice": [2.0, 4.0], "when": {"schedule.shape": "polynomial"}},
}
"""Of 18 points."""


def points(asked: list[Proposal]) -> set[str]:
    return {str(sorted(proposal.overrides.items())) for proposal in asked}


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "nsgaii", "random", "sobol"])
def test_all_points_of_a_finite_space_come_before_one_again(tmp_path: Path, name: str) -> None:
    space, count = FEW, 18
    if name == "gp":  # which takes its time
        space, count = {key: FEW[key] for key in ("schedule.initial", "schedule.end")}, 6
    study = open_study(tmp_path, name, space=space)
    asked = run(study, count)
    assert len(points(asked)) == count
    assert points(run(study, 1)) <= points(asked)  # there is no other


def test_points_that_the_sequence_misses_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "_AHEAD", -1000)
    assert len(points(run(open_study(tmp_path, "tpe", space=FEW), 18))) == 18


def test_points_that_hardly_differ_come_before_one_again(tmp_path: Path) -> None:
    space = {"schedule.initial": {"float": [0.9, 0.92], "step": 0.005}}
    assert len(points(run(open_study(tmp_path, "tpe", space=space), 5))) == 5


@pytest.mark.parametrize("ending", ["finished", "failed", "running"])
def test_what_is_known_counts_whatever_became_of_it(tmp_path: Path, ending: str) -> None:
    space = {"schedule.initial": {"choice": [0.5, 0.9]}, "schedule.shape": {"choice": ["linear"]}}
    for number in range(4):  # a sampler would draw the same again in half of them
        study = open_study(tmp_path, "random", space=space, seed=number)
        first = study.ask()
        assert first is not None
        if ending == "finished":
            study.tell(first.trial, 1.0, {})
        elif ending == "failed":
            study.fail(first.trial, "no such file")
        assert (second := study.ask()) and second.overrides != first.overrides


@pytest.mark.parametrize("name", ["tpe", "sobol"])
def test_a_copy_of_a_fixed_run_outside_the_space_is_none_that_is_new(
    tmp_path: Path, name: str
) -> None:
    """Knots whose three pieces are in one line are the linear schedule."""
    search = tiny_search(
        tmp_path, references=["paper"], sampler=name, trials=3,
        ablations={"straight": {"set": {"schedule.shape": "linear"}}},
        space={"schedule.shape": {"choice": ["knots"]},
               "schedule.first_left": {"choice": [2 / 3, 0.3]}},
    )  # fmt: skip
    study = LanguageStudy(search, "es", InMemoryStorage())
    assert study.point(search.reference("straight")) is None
    asked = [study.ask() for _ in range(3)]
    assert [p.reference for p in asked if p] == ["paper", "straight", None]
    assert asked[2] and asked[2].overrides["schedule.first_left"] == 0.3


def test_languages_repeat_what_leads_in_another(tmp_path: Path) -> None:
    base = tiny_search(tmp_path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"]["fr"] = {"train": 12}
    search = tiny_search(
        tmp_path, languages=["es", "fr"], references=["paper"], trials=8, base=base,
        transfer={"top": 1},
    )  # fmt: skip
    searcher = StudySearcher(search)
    es, fr = (searcher.studies[name] for name in ("es", "fr"))

    def ask(study: LanguageStudy, other: LanguageStudy) -> Proposal:
        found = study.ask(lambda: to_repeat(study, [other]))
        assert found is not None
        return found

    def score(study: LanguageStudy, proposal: Proposal) -> None:
        value = 10.0 if proposal.reference else 20 * float(proposal.overrides["schedule.initial"])
        study.tell(proposal.trial, value, {})

    done = [es.ask() for _ in range(4)]
    for proposal in done:
        score(es, proposal)
    leading = max(done[1:], key=lambda p: p.overrides["schedule.initial"])
    score(fr, ask(fr, es))  # its reference
    repeated = ask(fr, es)
    assert repeated.origin == leading.label and repeated.overrides == leading.overrides
    assert ask(fr, es).origin == "tpe"  # one was to be repeated
    assert {ask(es, fr).origin for _ in range(2)} == {"tpe"}  # nothing leads in fr yet


@pytest.mark.parametrize(
    ("right", "repeated"),
    [
        ({}, ["es#2", "es#3"]),  # nothing is confirmed
        ({0: 0.6, 2: 0.5, 3: 0.5}, ["es#4"]),  # neither beat the paper's
        ({0: 0.6, 2: 0.7, 3: 0.8}, ["es#3", "es#2"]),
        ({0: 0.5, 4: 0.6}, ["es#4", "es#2"]),  # more than what led by chance alone
        ({0: 0.6, 2: None}, ["es#3", "es#4"]),  # it diverged
    ],
)
def test_what_was_confirmed_comes_before_what_led_on_one_seed(
    tmp_path: Path, right: dict[int, float | None], repeated: list[str]
) -> None:
    """A finished search of es is given fr."""
    base = tiny_search(tmp_path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"]["fr"] = {"train": 12}
    known = {"base": base, "references": ["paper"], "confirm": {"seeds": 2}}
    values, scores = [0.9, 0.5, 0.95, 0.6, 0.8], [20.0, 10.0, 30.0, 28.0, 21.0]
    with claimed(tiny_search(tmp_path, **known, trials=5), resume=False, overwrite=False) as run:
        searcher, rng = StudySearcher(run.load_config(), run.journal), np.random.default_rng(0)
        assert searcher.suggest("t0")
        searcher.studies["es"].tell(0, scores[0], {})
        for number in range(1, 5):
            overrides = {
                "schedule.shape": "linear", "schedule.initial": values[number],
                "schedule.end": 0.8,
            }  # fmt: skip
            proposal = Proposal(
                language="es", trial=number, reference=None, seed=1, overrides=overrides
            )
            searcher.studies["es"].restore(proposal)
            searcher.studies["es"].tell(number, scores[number], {})
        for number, share in right.items():
            proposal = searcher.studies["es"].proposal(number)
            one = dataclasses.replace(result(number, scores[number]), **proposal.identity())
            confirm(run, one, share or 0.9, rng)
            if share is None:
                lost = dataclasses.replace(one, seed=2, fresh=True, split="dev", status="diverged")
                run.append_confirmation(lost)
    grown = tiny_search(tmp_path, **known, trials=5, languages=["es", "fr"])
    with claimed(grown, resume=True, overwrite=False) as run:
        searcher, origins = StudySearcher(grown, run.journal), []
        for number in range(4):
            config = searcher.suggest(f"t{number}")
            assert isinstance(config, dict) and config["language"] == "fr"
            searcher.on_trial_complete(f"t{number}", {"asr_bleu": 5.0})
            origins.append(config["origin"])
    assert [origin for origin in origins if "#" in origin] == repeated
