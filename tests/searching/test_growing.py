"""A finished search goes on with more trials, more languages, a wider space; nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from made import result
from tiny import tiny_search

from raystt.config import SearchConfig
from raystt.results import Result
from raystt.searching.claim import RunExists, claimed
from raystt.searching.directory import RunDirectory
from raystt.searching.reconcile import reconcile
from raystt.searching.study import LanguageStudy, own_journal

NARROW = {
    "schedule.shape": {"choice": ["linear", "cosine"]},
    "schedule.initial": {"float": [0.6, 0.9]},
}


def search_of(path: Path, **changes: Any) -> SearchConfig:
    base = tiny_search(path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"]["fr"] = {"train": 12}
    return tiny_search(path, **{"base": base, "space": NARROW, "trials": 6, **changes})


def study_of(search: SearchConfig, directory: RunDirectory, language: str = "es") -> LanguageStudy:
    return LanguageStudy(search, language, own_journal(directory.journal))


@pytest.fixture
def finished(tmp_path: Path) -> list[Result]:
    """A finished search: its references and three proposals."""
    search, done = search_of(tmp_path), []
    with claimed(search, resume=False, overwrite=False) as directory:
        study = study_of(search, directory)
        while (proposal := study.ask()) is not None:
            run = search.run_for("es", proposal.overrides)
            one = dataclasses.replace(
                result(proposal.trial, 10.0 + proposal.trial, schedule=run.schedule),
                **proposal.identity(),
            )
            directory.append(one)
            study.tell(proposal.trial, one.asr_bleu, one.report())
            done.append(one)
    return done


@pytest.mark.parametrize(
    "wider",
    [
        {"schedule.initial": {"float": [0.3, 1.0]}},
        {"schedule.shape": {"choice": ["linear", "cosine", "knots"]}},
        {"schedule.end": {"float": [0.5, 1.0]}},
        {"training.learning_rate": {"float": [1.0e-4, 1.0e-2], "log": True}},
    ],
    ids=lambda wider: next(iter(wider)),
)
def test_a_wider_space_starts_from_the_old_results(
    tmp_path: Path, finished: list[Result], wider: dict[str, Any]
) -> None:
    search, told = search_of(tmp_path, space=NARROW | wider, trials=9), []
    with claimed(search, resume=True, overwrite=False) as directory:
        reconcile(search, directory, told.append)
        study = study_of(search, directory)
        assert [(t.number, t.value) for t in study.finished()] == [
            (one.trial, one.asr_bleu) for one in finished
        ]
        for trial, one in zip(study.finished(), finished, strict=True):
            assert study.proposal(trial.number) == one.proposal()
            if (
                one.reference is None
            ):  # a point of the wider space, the base's value where it is new
                run = search.run_for("es", one.overrides).model_dump()
                assert trial.params == {
                    key: run[key.partition(".")[0]][key.partition(".")[2]]
                    for key in search.space.root
                }
        new = [study.ask() for _ in range(3)]
        assert [p.trial for p in new] == [6, 7, 8] and study.ask() is None
        assert set(new[0].overrides) == set(search.space.root)
        assert (directory.path / "journal.1.log").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"space": NARROW | {"schedule.initial": {"float": [0.7, 1.0]}}}, "space.schedule.initial"),
        (
            {"space": {"schedule.initial": NARROW["schedule.initial"]}},
            "space.schedule.shape removed",
        ),
        ({"space": NARROW | {"schedule.shape": {"choice": ["linear"]}}}, "space.schedule.shape"),
        ({"languages": ["fr"]}, "languages: es removed"),
        ({"seed": 7}, "seed: 1 there, 7 asked"),
    ],
)
def test_what_changes_the_scores_there_are_is_refused(
    tmp_path: Path, finished: list[Result], changes: dict[str, Any], told: str
) -> None:
    again = claimed(search_of(tmp_path, **changes), resume=True, overwrite=False)
    with pytest.raises(RunExists, match="another config") as refused, again:
        pass
    assert told in str(refused.value)


def test_a_language_is_added(tmp_path: Path, finished: list[Result]) -> None:
    search = search_of(tmp_path, languages=["fr", "es"])
    with claimed(search, resume=True, overwrite=False) as directory:
        reconcile(search, directory, lambda text: None)
        assert study_of(search, directory).ask() is None
        first = study_of(search, directory, "fr").ask()
        assert (first.trial, first.reference) == (0, "none")
