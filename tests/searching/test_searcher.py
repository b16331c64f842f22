"""The searcher: languages in turn, results before the journal, failures without a score."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_search

from raystt.results import read
from raystt.searching.directory import RunDirectory
from raystt.searching.searcher import StudySearcher
from raystt.searching.study import LanguageStudy, open_journal

LANGUAGES = ("es", "fr")


@pytest.fixture
def searcher(tmp_path: Path) -> StudySearcher:
    sizes = {name: {"train": 12} for name in LANGUAGES}
    base = tiny_search(tmp_path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"] = sizes
    search = tiny_search(tmp_path, languages=list(LANGUAGES), base=base)
    directory = RunDirectory(search, resume=False, overwrite=False)
    storage = open_journal(directory.journal)
    studies = {name: LanguageStudy(search, name, storage) for name in LANGUAGES}
    return StudySearcher(studies, directory)


def record(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a Tune trial reports."""
    proposal = config["proposal"]
    values = {
        "language": proposal["language"], "trial": proposal["number"],
        "reference": proposal["reference"], "split": "dev", "segment": [0, 6], "steps": 6,
        "status": "complete", "schedule": {"shape": "constant", "initial": 0.0},
        "overrides": proposal["overrides"], "asr_bleu": 12.0, "ci": [8.0, 16.0],
        "signature": "s", "sentences": 4, "achieved_words": 0.0, "train_seconds": 1.0,
        "train_tokens": 10, "evaluate_seconds": 0.5, "busy_seconds": 1.5, "wait_seconds": 0.0,
        "started": time.time(), "ready": time.time() - 2.0, "state": None, "error": "",
        **changes,
    }  # fmt: skip
    return {"record": json.dumps(values), "done": True}


def test_languages_take_turns_until_all_have_their_trials(searcher: StudySearcher) -> None:
    asked = [searcher.suggest(f"t{n}") for n in range(9)]
    languages = [config["proposal"]["language"] for config in asked[:8]]
    assert sorted(languages[:2]) == sorted(languages[2:4]) == ["es", "fr"]
    assert languages.count("es") == languages.count("fr") == 4
    assert asked[8] == StudySearcher.FINISHED
    assert set(searcher.running()) == {f"{name}#{n}" for name in LANGUAGES for n in range(4)}


def test_results_reach_the_file_and_the_study(searcher: StudySearcher) -> None:
    config = searcher.suggest("t0")
    searcher.on_trial_complete("t0", record(config))
    (result,) = read(searcher._directory.results)
    assert result.asr_bleu == 12.0 and result.overhead_seconds >= 0.0
    assert "ready" not in result.extra and "busy_seconds" not in result.extra
    study = searcher._studies[config["proposal"]["language"]]
    assert [trial.value for trial in study.finished()] == [12.0]
    assert searcher.completed == 1 and not searcher.running()


def test_overhead_is_what_was_not_work(searcher: StudySearcher) -> None:
    config = searcher.suggest("t0")
    time.sleep(0.3)
    searcher.on_trial_complete("t0", record(config, busy_seconds=0.1, wait_seconds=0.05))
    (result,) = read(searcher._directory.results)
    assert result.overhead_seconds > 0.1


@pytest.mark.parametrize("died", [True, False])
def test_a_failed_trial_has_no_score_and_says_why(searcher: StudySearcher, died: bool) -> None:
    config = searcher.suggest("t0")
    failed = record(config, status="failed", error="ValueError: part-00000.parquet is damaged")
    searcher.on_trial_complete("t0", None if died else failed, error=died)
    assert read(searcher._directory.results) == []
    line = json.loads((searcher._directory.path / "failures.jsonl").read_text())
    assert line["language"] == config["proposal"]["language"]
    assert ("Tune actor died" if died else "part-00000.parquet is damaged") in line["error"]
    assert not searcher._studies[line["language"]].finished()


def test_a_language_with_fewer_fixed_runs_is_done_earlier(tmp_path: Path) -> None:
    base = tiny_search(tmp_path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"] = {name: {"train": 12} for name in LANGUAGES}
    search = tiny_search(
        tmp_path, languages=list(LANGUAGES), base=base, trials=None, space={},
        ablations={"mask": {"set": {"interleaving.replacement": "mask"}, "languages": ["fr"]}},
    )  # fmt: skip
    directory = RunDirectory(search, resume=False, overwrite=False)
    storage = open_journal(directory.journal)
    studies = {name: LanguageStudy(search, name, storage) for name in LANGUAGES}
    searcher = StudySearcher(studies, directory)
    asked = [searcher.suggest(f"t{n}") for n in range(8)]
    assert asked[7] == StudySearcher.FINISHED
    languages = [config["proposal"]["language"] for config in asked[:7]]
    assert languages.count("es") == 3 and languages.count("fr") == 4
    assert asked[6]["proposal"]["reference"] == "mask"
