"""Tune's own tools over a search that was killed and resumed: every finished trial, once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pandas
import pytest
from made import result
from ray.train._internal.storage import StorageContext
from ray.tune import ResultGrid
from ray.tune.experiment import Trial as TuneTrial
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tune_session import TRIALS, session

import raystt
from raystt.searching import experiment

NUMBERS = (
    "asr_bleu", "asr_bleu_low", "asr_bleu_high", "chrf", "loss", "ratio", "achieved_words",
    "step", "tokens", "train_seconds", "evaluate_seconds", "overhead_seconds", "truncated",
)  # fmt: skip


@pytest.fixture(scope="module")
def killed_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of 5 trials, killed after its second and its third result."""
    path = tmp_path_factory.mktemp("tune")
    assert session(path, 2) == -signal.SIGKILL
    assert session(path, 3) == -signal.SIGKILL
    assert session(path) == 0
    return path / "runs" / "played"


def scalars(folder: Path) -> dict[str, float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    assert any("hparams" in tag for tag in events.summary_metadata), folder
    names = {f"ray/tune/{name}": name for name in NUMBERS}
    return {
        names[tag]: events.Scalars(tag)[-1].value
        for tag in events.Tags()["scalars"] if tag in names
    }  # fmt: skip


@pytest.mark.ray
def test_tune_tensorboard_and_results_agree(killed_twice: Path) -> None:
    run = raystt.open_run(killed_twice)
    trials = run.trials.set_index("trial")
    assert sorted(trials.index) == list(range(TRIALS))
    analysis = run.experiment
    table = analysis.dataframe().set_index("config/trial")
    assert sorted(table.index) == sorted(trials.index)
    assert (table["config/language"] == "es").all()
    assert (table.done).all() and (table.status == "complete").all()
    for name in NUMBERS:
        assert table[name].sort_index().tolist() == trials[name].sort_index().tolist(), name
    # A curve grows while a trial trains.
    assert max(len(rows) for rows in analysis.trial_dataframes.values()) > 1
    grid = ResultGrid(analysis).get_dataframe().set_index("config/trial")
    assert grid.sort_index().asr_bleu.tolist() == trials.sort_index().asr_bleu.tolist()
    best = analysis.get_best_trial("asr_bleu", "max")
    assert best.last_result["asr_bleu"] == run.best["es"].result.asr_bleu
    for number, row in trials.iterrows():
        folder = killed_twice / "tune" / f"es-{number:03d}"
        assert scalars(folder) == pytest.approx({n: row[n] for n in NUMBERS}, rel=1e-6)
        last = pandas.read_csv(folder / "progress.csv").iloc[-1]
        assert last[list(NUMBERS)].to_dict() == row[list(NUMBERS)].to_dict()
        assert last["signatures/chrf"] == json.loads(row.signatures)["chrf"]
        assert json.loads((folder / "params.json").read_text())["trial"] == number
    assert not list(killed_twice.glob("tune/*/checkpoint_*"))
    study = run.study("es")
    assert [t.number for t in study.trials] == list(range(TRIALS))
    assert {t.number: t.value for t in study.trials} == trials.asr_bleu.to_dict()
    for one in study.trials:
        assert one.user_attrs["chrf"] == trials.chrf[one.number]
        losses = one.intermediate_values
        assert not losses or max(losses) <= trials.step[one.number]
    assert any(one.intermediate_values for one in study.trials)


@pytest.mark.ray
def test_a_moved_search_is_read_where_it_lies(killed_twice: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(killed_twice, moved, symlinks=True)
    run = raystt.open_run(moved)
    assert len(run.experiment.dataframe()) == len(run.trials) == TRIALS
    assert run.best["es"].model.is_relative_to(moved)


def test_what_a_kill_cost_is_written_again(ray_local: str, tmp_path: Path) -> None:
    kept = [result(0, 10.0), result(1, 20.0)]
    experiment.mend(kept[:1], tmp_path)
    first = (tmp_path / "tune" / "es-000" / "result.json").read_text()
    (tmp_path / "tune" / "es-001").mkdir()
    torn = '{"step": 3, "done": false}\n{"to'
    (tmp_path / "tune" / "es-001" / "result.json").write_text(torn)
    experiment.mend(kept, tmp_path)
    assert (tmp_path / "tune" / "es-000" / "result.json").read_text() == first
    assert scalars(tmp_path / "tune" / "es-001")["asr_bleu"] == 20.0


def finished(path: Path, folder: str) -> TuneTrial:
    """A trial of two reports, whose loggers have written a file."""
    storage = StorageContext(
        storage_path=str(path), experiment_dir_name="tune", trial_dir_name=folder
    )
    trial = TuneTrial(
        experiment.TRAINABLE, stub=True, storage=storage, _setup_default_resource=False,
        trial_dirname_creator=lambda _: folder,
    )  # fmt: skip
    trial.storage.trial_dir_name = folder
    for step, score in ((1, 10.0), (2, 20.0)):
        trial.update_last_result({"asr_bleu": score, "training_iteration": step})
    trial.init_local_path()
    Path(trial.local_path, "result.json").write_text("{}\n")
    return trial


def test_a_finished_trial_is_put_away(ray_local: str, tmp_path: Path) -> None:
    trial = finished(tmp_path, "es-000")
    (tmp_path / "tune" / "es-000").mkdir(parents=True)
    (tmp_path / "tune" / "es-000" / "result.json").touch()  # as Tune has copied it before
    experiment.Shelve().on_trial_complete(0, [trial], trial)
    assert not trial.metric_n_steps
    assert trial.metric_analysis["asr_bleu"]["last-5-avg"] == 15.0
    assert (tmp_path / "tune" / "es-000" / "result.json").read_text() == "{}\n"
    assert not os.listdir(trial.local_path)


def test_what_cannot_be_put_away_stays_for_later(ray_local: str, tmp_path: Path) -> None:
    trial = finished(tmp_path, "es-001")
    (tmp_path / "tune").mkdir(exist_ok=True)
    (tmp_path / "tune" / "es-001").write_text("in the way")
    experiment.Shelve().on_trial_complete(0, [trial], trial)
    assert Path(trial.local_path, "result.json").read_text() == "{}\n"


def test_trials_begin_in_the_order_in_which_they_came() -> None:
    trials = [TuneTrial(experiment.TRAINABLE, stub=True, _setup_default_resource=False)
              for _ in range(3)]  # fmt: skip
    order = experiment.InOrder()
    for trial in trials:
        order.on_trial_add(None, trial)
    trials[0].set_status(TuneTrial.TERMINATED)
    assert order.choose_trial_to_run(None) is trials[1]
    trials[1].set_status(TuneTrial.RUNNING)
    assert order.choose_trial_to_run(None) is trials[2]
    trials[2].set_status(TuneTrial.ERROR)  # its actor was lost: it comes again
    assert order.choose_trial_to_run(None) is None
    trials[2].set_status(TuneTrial.PENDING)
    order.on_trial_add(None, trials[2])
    assert order.choose_trial_to_run(None) is trials[2]
