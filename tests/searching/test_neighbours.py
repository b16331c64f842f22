"""Neighbours of the best: a notch up and down within the space, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import confirm, result
from tiny import tiny_corpus, tiny_search

from raystt.config import Entry
from raystt.results import Result
from raystt.searching.claim import claimed
from raystt.searching.directory import RunDirectory
from raystt.searching.neighbours import certificate, missing_neighbours, neighbours, notches
from raystt.searching.summarise import summarise_search
from raystt.searching.verdict import answers, missing


@pytest.mark.parametrize(
    ("entry", "value", "expected"),
    [
        ({"float": [0.5, 1.0]}, 0.7, {"+": 0.75, "-": 0.65}),
        ({"float": [0.5, 1.0]}, 0.98, {"+": 1.0, "-": 0.93}),
        ({"float": [0.5, 1.0]}, 0.5, {"+": 0.55}),
        ({"float": [0.0, 1.0], "step": 0.25}, 0.5, {"+": 0.75, "-": 0.25}),
        ({"float": [1.0, 1024.0], "log": True}, 4.0, {"+": 8.0, "-": 2.0}),
        ({"int": [1, 5]}, 2, {"+": 3, "-": 1}),
        ({"int": [100, 300], "step": 100}, 300, {"-": 200}),
        ({"choice": [3, 1, 2]}, 2, {"+": 3, "-": 1}),
        ({"choice": [3, 1, 2]}, 1, {"+": 2}),
        ({"choice": ["linear", "cosine"]}, "linear", {}),
        ({"choice": [True, False]}, True, {}),
    ],
)
def test_a_notch_is_a_step_or_a_tenth_of_the_range(
    entry: dict[str, Any], value: Any, expected: dict[str, Any]
) -> None:
    assert dict(notches(Entry.model_validate(entry), value)) == expected


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A search with two confirmed proposals, of which #4 is the best."""
    search = tiny_search(
        tmp_path, trials=8, confirm={"top": 2, "seeds": 3, "certificate": True},
        references=["none", "paper"],
    )  # fmt: skip
    space = {"schedule.shape": "linear", "schedule.initial": 0.7, "schedule.end": 1.0}
    tiny_corpus(tmp_path / "corpus")
    with claimed(search, resume=False, overwrite=False) as directory:
        directory.keep_card(tmp_path / "corpus")
        for one, right in (
            (result(0, 1.0, reference="none"), 0.1), (result(1, 20.0, reference="paper"), 0.6),
            (result(3, 30.0, overrides={**space, "schedule.end": 0.8}), 0.7),
            (result(4, 28.0, overrides=space), 0.8),
        ):  # fmt: skip
            directory.append(one)
            confirm(directory, one, right, np.random.default_rng(one.trial))
    return directory


def train(run: RunDirectory, **right: float) -> None:
    """Train the neighbours of the best; a knob that is not named says 0.5 of the words."""
    search = run.load_config()
    (best,) = (answer.best for answer in answers(search, run).values())
    assert best is not None
    for one in neighbours(search, best):
        share = right.get(one.knob.replace("schedule.", "").replace("+", "_up"), 0.5)
        made = Result(**{**vars(best), **one.identity()})
        confirm(run, made, share, np.random.default_rng(7))


def test_neighbours_are_what_is_still_missing(run: RunDirectory) -> None:
    search = run.load_config()
    found = answers(search, run)
    assert not missing(search, run, run.read()) and found["es"].best is not None
    assert search.confirmations_of("es") == (2 + 2 + 2 * 2) * 3
    lacking = missing_neighbours(search, run, found)
    assert {(one.knob, one.overrides[one.knob[:-1]]) for one, _ in lacking} == {
        ("schedule.initial+", 0.75), ("schedule.initial-", 0.65), ("schedule.end-", 0.95),
    }  # fmt: skip
    assert {(one.trial, one.seed) for one, _ in lacking} == {(4, 2), (4, 3), (4, 4)}
    assert lacking[0][0].label == "es#4/2 schedule.initial+"
    assert lacking[0][0].folder == "es-004-seed2-schedule.initial+"
    assert all(splits == ["test"] for _, splits in lacking)
    proof = certificate(search, run, found["es"])
    assert proof is not None and proof.verdict.startswith("not known to be at a top: 0 of 3")


@pytest.mark.slow
def test_a_best_at_a_top_is_certified(run: RunDirectory) -> None:
    train(run)
    search = run.load_config()
    assert not missing_neighbours(search, run, answers(search, run))
    summary = summarise_search(search, run).as_dict()
    proof = summary["languages"]["es"]["best"]["certificate"]
    assert proof["verdict"] == "at a top: none of its 3 neighbours is shown to be better"
    assert [row["asr_bleu"] < 0 and row["p"] < 0.05 for row in proof["neighbours"]] == [True] * 3
    assert summary["confirm"]["missing"] == 0
    # They are neighbours, and no runs of the best itself.
    assert summary["languages"]["es"]["best"]["fresh"]["asr_bleu"] == pytest.approx(
        answers(search, run)["es"].fresh[4].score
    )


def test_a_better_neighbour_is_named(run: RunDirectory) -> None:
    train(run, initial_up=0.97)
    search = run.load_config()
    proof = certificate(search, run, answers(search, run)["es"])
    assert proof is not None and proof.neighbours[0].knob == "schedule.initial+"
    assert proof.verdict == "not at a top: better are schedule.initial+ (0.75)"


def test_a_wider_space_has_other_neighbours(run: RunDirectory) -> None:
    train(run)
    search = run.load_config()
    assert not missing_neighbours(search, run, answers(search, run))
    values = search.model_dump(mode="json", exclude_unset=True, by_alias=True)
    values["space"]["schedule.initial"] = {"float": [0.0, 1.0]}
    wider = type(search).model_validate_json(json.dumps(values))
    lacking = missing_neighbours(wider, run, answers(wider, run))
    assert {(one.knob, one.overrides["schedule.initial"]) for one, _ in lacking} == {
        ("schedule.initial+", 0.8), ("schedule.initial-", 0.6),
    }  # fmt: skip
    proof = certificate(wider, run, answers(wider, run)["es"])
    assert proof is not None and [row.knob for row in proof.neighbours] == ["schedule.end-"]


def test_what_is_no_schedule_is_no_neighbour(run: RunDirectory) -> None:
    search = run.load_config()
    one = result(5, 1.0, overrides={
        "schedule.shape": "linear", "schedule.hold": 0.76, "schedule.end": 0.8
    })  # fmt: skip
    assert {n.knob for n in neighbours(search, one)} == {"schedule.end+"}
