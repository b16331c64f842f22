"""The searcher: languages in turn, results before the journal, failures without a score."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from made import result
from tiny import tiny_search

from raystt.config import SearchConfig
from raystt.results import Proposal
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.searcher import StudySearcher

LANGUAGES = ("es", "fr")


def two_languages(path: Path, **changes: Any) -> SearchConfig:
    base = tiny_search(path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"] = {name: {"train": 12} for name in LANGUAGES}
    return tiny_search(path, languages=list(LANGUAGES), base=base, **changes)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def searcher(directory: RunDirectory, messages: list[str]) -> StudySearcher:
    search = two_languages(directory.path)
    ledger = Ledger(search, directory, messages.append)
    return StudySearcher(search, directory.journal, ledger)


def report(config: dict[str, Any], asr_bleu: float) -> dict[str, Any]:
    """What a Tune trial reports last."""
    proposal = Proposal.from_config(config)
    run = two_languages(Path(".")).run_for(proposal.language, proposal.overrides)
    return dataclasses.replace(
        result(proposal.trial, asr_bleu, schedule=run.schedule), **proposal.identity()
    ).report()


def test_languages_take_turns_until_all_have_their_trials(searcher: StudySearcher) -> None:
    assert searcher.missing == 8
    asked = [searcher.suggest(f"t{n}") for n in range(9)]
    languages = [config["language"] for config in asked[:8]]
    assert sorted(languages[:2]) == sorted(languages[2:4]) == ["es", "fr"]
    assert languages.count("es") == languages.count("fr") == 4
    assert asked[8] is None  # one of those that run may come again
    assert set(searcher.running()) == {f"{name}#{n}" for name in LANGUAGES for n in range(4)}


def test_no_more_run_at_a_time_than_may(searcher: StudySearcher) -> None:
    searcher.concurrent = 2
    first, second, third = (searcher.suggest(f"t{n}") for n in range(3))
    assert first is not None and second is not None and third is None
    searcher.concurrent = 3  # the pools have grown
    assert searcher.suggest("t3") is not None and searcher.suggest("t4") is None
    searcher.on_trial_complete("t0", report(first, 12.0))
    assert searcher.suggest("t5") is not None


def test_a_config_is_flat_and_says_what_the_trial_is(searcher: StudySearcher) -> None:
    for n in range(8):
        config = searcher.suggest(f"t{n}")
        assert {"language", "trial", "reference", "seed", "schedule.initial"} <= set(config)
        assert not any(isinstance(value, dict | list) for value in config.values())


def test_results_reach_the_file_and_the_study(
    searcher: StudySearcher, directory: RunDirectory
) -> None:
    config = searcher.suggest("t0")
    searcher.on_trial_result("t0", {"loss": 3.5, "step": 2})
    searcher.on_trial_result("t0", {"loss": None, "step": 3})
    searcher.on_trial_complete("t0", report(config, 12.0))
    (written,) = directory.read()
    assert written.asr_bleu == 12.0 and written.config() == config
    (trial,) = searcher.studies[config["language"]].finished()
    assert trial.value == 12.0 and trial.intermediate_values == {2: 3.5}
    assert trial.user_attrs["asr_bleu_low"] == 7.0 and trial.user_attrs["achieved_words"] == 0.4
    assert not searcher.running() and not searcher.failures


def test_the_objective_is_what_the_study_is_told(directory: RunDirectory) -> None:
    search = two_languages(directory.path, objective="chrf")
    searcher = StudySearcher(search, directory.journal, Ledger(search, directory, lambda _: None))
    config, other = searcher.suggest("t0"), searcher.suggest("t1")
    searcher.on_trial_complete("t0", report(config, 12.0) | {"chrf": 40.0})
    searcher.on_trial_complete("t1", report(other, 0.0) | {"status": "diverged", "chrf": None})
    (trial,) = searcher.studies[config["language"]].finished()
    assert trial.value == 40.0 and trial.user_attrs["asr_bleu"] == 12.0
    (trial,) = searcher.studies[other["language"]].finished()
    assert trial.value == 0.0 and not searcher.failures


DAMAGED = {"status": "failed", "error": "ValueError: part-00000.parquet is damaged\ntrace"}
FULL = {"status": "interrupted", "error": "StorageLost: No space left on device"}


def test_a_failed_trial_has_no_score_and_says_why(
    searcher: StudySearcher, directory: RunDirectory, messages: list[str]
) -> None:
    config = searcher.suggest("t0")
    searcher.on_trial_complete("t0", DAMAGED)
    assert directory.read() == []
    (failure,) = directory.read_failures()
    assert failure.config() == config
    assert "part-00000.parquet is damaged" in failure.error
    assert not searcher.studies[failure.language].finished()
    assert failure.label in messages[0] and "trace" not in messages[0]
    others = [searcher.suggest(f"u{n}") for n in range(8)]
    assert config not in others and others.count(None) == 1
    assert searcher.failures == [failure.label] and not searcher.stopped


def test_a_trial_whose_actor_died_comes_again(
    searcher: StudySearcher, directory: RunDirectory, messages: list[str]
) -> None:
    config = searcher.suggest("t0")
    searcher.on_trial_complete("t0", error=True)
    assert directory.read_failures() == [] and "Tune actor died" in messages[0]
    again = searcher.suggest("t1")
    assert again == config
    searcher.on_trial_complete("t1", report(again, 12.0))
    assert [r.label for r in directory.read()] == [Proposal.from_config(config).label]


@pytest.mark.parametrize("ending", [DAMAGED, None])
def test_three_bad_endings_in_a_row_stop_the_search(
    searcher: StudySearcher, ending: dict[str, Any] | None
) -> None:
    def end(name: str, how: dict[str, Any] | None) -> None:
        searcher.suggest(name)
        searcher.on_trial_complete(name, how, error=how is None)

    end("a", ending)
    end("b", ending)
    config = searcher.suggest("c")
    searcher.on_trial_complete("c", report(config, 12.0))
    end("d", ending)
    end("e", ending)
    assert not searcher.stopped
    end("f", ending)
    assert ("is damaged" if ending else "actor died") in searcher.stopped
    assert searcher.suggest("g") == StudySearcher.FINISHED
    assert not searcher.exhausted


def test_lost_storage_stops_the_search_at_once_and_costs_no_trial(
    searcher: StudySearcher, directory: RunDirectory
) -> None:
    config = searcher.suggest("t0")
    searcher.on_trial_complete("t0", FULL)
    assert "No space left" in searcher.stopped and directory.read_failures() == []
    assert searcher.suggest("t1") == StudySearcher.FINISHED
    resumed = StudySearcher(two_languages(directory.path), directory.journal)
    assert resumed.suggest("t0") == config


def test_while_it_is_held_nothing_is_handed_out(searcher: StudySearcher) -> None:
    searcher.held = "12 MB are free"
    assert searcher.suggest("t0") is None
    searcher.held = ""
    assert isinstance(searcher.suggest("t0"), dict)


def test_alone_it_serves_anybodys_trainable(tmp_path: Path) -> None:
    searcher = StudySearcher(two_languages(tmp_path))
    first, second = searcher.suggest("a"), searcher.suggest("b")
    searcher.on_trial_complete("a", {"asr_bleu": 3.0})
    searcher.on_trial_complete("b", {"asr_bleu": float("nan")})
    assert [t.value for t in searcher.studies[first["language"]].finished()] == [3.0]
    assert not searcher.studies[second["language"]].finished()
    assert not searcher.set_search_properties(None, "min", {})
    assert searcher.set_search_properties("asr_bleu", "max", {})


def test_a_language_with_fewer_fixed_runs_is_done_earlier(tmp_path: Path) -> None:
    ablations = {"mask": {"set": {"interleaving.replacement": "mask"}, "languages": ["fr"]}}
    searcher = StudySearcher(two_languages(tmp_path, trials=None, space={}, ablations=ablations))
    asked = [searcher.suggest(f"t{n}") for n in range(7)]
    for n in range(7):
        searcher.on_trial_complete(f"t{n}", {"asr_bleu": 3.0})
    assert searcher.suggest("t7") == StudySearcher.FINISHED and searcher.exhausted
    languages = [config["language"] for config in asked]
    assert languages.count("es") == 3 and languages.count("fr") == 4
    assert asked[6]["reference"] == "mask"
