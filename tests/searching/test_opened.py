"""A search's directory in a notebook, and the dashboards over it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from made import result
from tiny import tiny_corpus, tiny_search

import raystt
from raystt import api
from raystt.evaluation.clips import write_clips
from raystt.evaluation.jobs import clips_of
from raystt.results import Failure, Result
from raystt.searching.best import write_best
from raystt.searching.claim import claimed
from raystt.searching.directory import NoRun
from raystt.searching.ledger import Ledger
from raystt.searching.searcher import StudySearcher
from raystt.searching.verdict import answers


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A search of four trials over the tiny corpus, as a driver leaves it, without training."""
    tiny_corpus(tmp_path / "corpus")
    search = tiny_search(tmp_path)
    with claimed(search, resume=False, overwrite=False) as directory:
        directory.keep_card(tmp_path / "corpus")
        searcher = StudySearcher(search, directory.journal, Ledger(search, directory, print))
        for number, score in enumerate([4.0, 20.0, 6.0, 24.5]):
            proposal = raystt.Proposal.from_config(searcher.suggest(f"t{number}"))
            one = result(
                number, score, reference=proposal.reference, overrides=proposal.overrides,
                schedule=search.run_for("es", proposal.overrides).schedule,
            )  # fmt: skip
            write_clips(clips_of(directory.trials / one.folder, "dev"), [b"ID3", b"", b"ID3"])
            searcher.on_trial_complete(f"t{number}", one.report())
            directory.model(one).mkdir(parents=True)
        tested = result(3, 22.0, split="test", overrides=one.overrides, schedule=one.schedule)
        directory.append(tested)
        write_best(search, directory, answers(search, directory)["es"], tested)
        failed = {"language": "es", "trial": 4, "reference": None, "seed": 1, "overrides": {}}
        directory.append(Failure(**failed, error="disk full", time=1.0))
    return directory.path


def test_trials_best_and_studies(written: Path) -> None:
    run = raystt.open_run(written)
    assert list(run.trials.asr_bleu) == [4.0, 20.0, 6.0, 24.5]
    assert run.trials.to_paper[3] == 4.5 and run.trials.test_asr_bleu[3] == 22.0
    best = run.best["es"]
    assert best.result.trial == 3 and best.model.is_dir()
    assert best.config.schedule == best.result.schedule and best.config.name == "tiny-es-final"
    assert [trial.value for trial in run.study("es").trials] == [4.0, 20.0, 6.0, 24.5]
    assert run.study("es").study_name == "tiny es"
    assert [failure.error for failure in run.failures] == ["disk full"]
    assert "4 of 4" in repr(run)
    with pytest.raises(NoRun, match="no study of 'xx'.*es"):
        run.study("xx")


def test_the_best_is_a_directory_that_travels_with_the_run(written: Path) -> None:
    moved = written.rename(written.with_name("elsewhere"))
    folder = moved / "best" / "es"
    assert (folder / "model").resolve() == raystt.open_run(moved).best["es"].model
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("24.5 [19.5, 29.5] on dev", "22.0 [17.0, 27.0] on test", "12 pairs", "#3"):
        assert part in card
    config = raystt.load_run(folder / "config.yaml")
    assert config == raystt.open_run(moved).best["es"].config


@pytest.mark.slow
def test_a_report_needs_nothing_but_the_run(written: Path) -> None:
    (written.parents[1] / "corpus" / "card.json").unlink()
    files = api.report(raystt.open_run(written))
    assert {file.name for file in files} == {"index.html", "schedules.png", "table.md"}
    text = (written / "report" / "table.md").read_text(encoding="utf-8")
    assert "24.5 [19.5, 29.5]" in text and "+4.5" in text
    # Scores of the other split are no trials.
    assert "4 of 4 trials" in (written / "report" / "index.html").read_text(encoding="utf-8")


def test_no_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(NoRun, match="config.yaml is missing.*runs/quickstart"):
        raystt.open_run(tmp_path)
    with claimed(tiny_search(tmp_path), resume=False, overwrite=False) as directory:
        pass
    with pytest.raises(NoRun, match=r"corpus of this search is not prepared yet.*--resume"):
        api.report(raystt.open_run(directory.path))


def page_of(address: str) -> bytes:
    limit = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < limit, address
            time.sleep(0.2)


def artifacts(address: str, trial: int) -> list[dict[str, str]]:
    """Return what optuna-dashboard has beside a trial of the first study."""
    study = json.loads(page_of(f"{address}api/studies/0"))
    found: list[dict[str, str]] = study["trials"][trial].get("artifacts", [])
    return found


@pytest.mark.slow
def test_dashboards_answer_on_loopback(written: Path) -> None:
    served = subprocess.Popen(
        [sys.executable, "-m", "raystt.cli", "dashboard", str(written)],
        stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    try:
        assert served.stdout is not None
        addresses = [served.stdout.readline().split()[-1] for _ in range(2)]
        assert all(address.startswith("http://127.0.0.1:") for address in addresses)
        assert b"tiny es" in page_of(addresses[0] + "api/studies")
        assert b"TensorBoard" in page_of(addresses[1])
        # What leads and what is fixed can be heard, a clip that is silent cannot.
        for trial in raystt.open_run(written).study("es").trials:
            names = {clip["filename"] for clip in artifacts(addresses[0], trial.number)}
            heard = trial.user_attrs.get("reference") or trial.value == 24.5
            assert names == ({"00.mp3", "02.mp3"} if heard else set()), trial.number
        first = artifacts(addresses[0], 0)[0]["artifact_id"]
        assert page_of(f"{addresses[0]}artifacts/0/0/{first}") == b"ID3"
    finally:
        served.terminate()
        served.wait()
    for address in addresses:  # neither outlives the command
        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)


def test_a_result_is_frozen() -> None:
    with pytest.raises(AttributeError):
        result(0, 1.0).asr_bleu = 2.0  # type: ignore[misc]
    assert isinstance(result(0, 1.0), Result)
