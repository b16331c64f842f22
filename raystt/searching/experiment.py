"""The Tune experiment of a run, `<run>/tune/`: what Tune's own tools read.

Tune copies its files to the run every few seconds, those of a finished trial once, and knows the
trials of one session. What was finished in earlier ones is therefore handed to it again, from
`results.jsonl`, and files that a kill cost are written again by Tune's own loggers:
`ExperimentAnalysis`, TensorBoard and the results hold the same trials, each once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.train._internal.storage import StorageContext
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, LoggerCallback, TBXLoggerCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import SearchGenerator

from raystt.results import Result
from raystt.searching.directory import TUNE
from raystt.searching.searcher import StudySearcher

TRAINABLE = "raystt"


class ResumedSearch(SearchGenerator):  # type: ignore[misc]
    """Gives Tune the trials of earlier sessions, finished as they are, and then new ones.

    Args:
        searcher: Where new trials come from.
        finished: The results of earlier sessions.
        run: Directory of the run.
    """

    def __init__(self, searcher: StudySearcher, finished: Iterable[Result], run: Path) -> None:
        super().__init__(searcher)
        self._before = deque(finished_trial(result, run) for result in finished)

    def next_trial(self) -> TuneTrial | None:
        """Return a trial that was finished before, then what the searcher proposes."""
        return self._before.popleft() if self._before else super().next_trial()

    def is_finished(self) -> bool:
        """Say whether there is nothing more to hand out."""
        return not self._before and bool(super().is_finished())


class InOrder(FIFOScheduler):  # type: ignore[misc]
    """Begins trials in the order in which they came, as Tune's own.

    That one looks through all trials there ever were, ten times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._live: list[TuneTrial] = []

    def on_trial_add(self, tune_controller: object, trial: TuneTrial) -> None:
        """Know of a trial that came, or came again after its actor was lost."""
        self._live.append(trial)

    def choose_trial_to_run(self, tune_controller: object) -> TuneTrial | None:
        """Return the first trial that waits."""
        self._live = [trial for trial in self._live if not trial.is_finished()]
        return next((t for t in self._live if t.status == TuneTrial.PENDING), None)


class Shelve(Callback):  # type: ignore[misc]
    """Puts a finished trial's files where they stay, and lets go of what Tune keeps of it.

    Every few seconds Tune copies all that lies where its loggers write, finished or not; and of
    each number it holds the last five and ten values, for averages that nothing is added to any
    more. Both would grow with the search.
    """

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial) -> None:
        """Move a trial's files into the run, and drop the last values of its numbers."""
        trial.metric_n_steps.clear()
        # Whatever is in the way, such as a full disk: what is left lies in Tune's next copy.
        with suppress(Exception):
            trial.storage.syncer.wait()  # it may be copying them just now
            _put_away(trial)


def _put_away(trial: TuneTrial) -> None:
    """Move what Tune's loggers wrote of a trial into the run.

    The folder stays: W&B's process of the trial works in it, perhaps longer than the trial.
    """
    shutil.copytree(trial.local_path, trial.path, dirs_exist_ok=True)
    for path in Path(trial.local_path).iterdir():
        path.unlink()


def callbacks(trackers: Sequence[LoggerCallback]) -> list[Callback]:
    """Return the loggers of a search, JSON, CSV and TensorBoard, its trackers, and `Shelve`.

    Seconds of imports, which Tune would make when it begins: best called while something starts.
    """
    from ray.air.integrations import mlflow, wandb  # noqa: F401

    return [
        JsonLoggerCallback(),
        CSVLoggerCallback(),
        TBXLoggerCallback(),
        *trackers,
        Shelve(),
    ]


def mend(finished: Sequence[Result], run: Path) -> None:
    """Write what Tune did not come to write of finished trials before a kill.

    What it wrote of others goes: they are run again from their start.
    """
    folders = {result.folder for result in finished}
    for path in (run / TUNE).glob("*/"):
        if path.name not in folders:
            shutil.rmtree(path, ignore_errors=True)
    for result in finished:
        if _last_line(run, result).get("done") is not True:
            _log_again(result, run)


def _last_line(run: Path, result: Result) -> dict[str, Any]:
    """Return the last report that Tune has logged of a trial; empty if there is none."""
    try:
        lines = (run / TUNE / result.folder / "result.json").read_text().splitlines()
        return dict(json.loads(lines[-1]))
    except (OSError, IndexError, ValueError):
        return {}


def _storage(run: Path, result: Result) -> StorageContext:
    return StorageContext(
        storage_path=str(run), experiment_dir_name=TUNE, trial_dir_name=result.folder
    )


def finished_trial(result: Result, run: Path) -> TuneTrial:
    """Return a finished trial as Tune would know it."""
    trial = TuneTrial(
        TRAINABLE,
        config=result.config(),
        evaluated_params=result.config(),
        experiment_tag=result.label,
        storage=_storage(run, result),
        trial_name_creator=lambda _: result.label,
        trial_dirname_creator=lambda _: result.folder,
        stub=True,
        _setup_default_resource=False,
    )
    trial.storage.trial_dir_name = result.folder
    last = _last_line(run, result) or {
        **result.report(), "training_iteration": 1, "done": True, "trial_id": trial.trial_id,
        "config": result.config(),
    }  # fmt: skip
    trial.update_last_result(last)
    trial.metric_n_steps.clear()
    trial.set_status(TuneTrial.TERMINATED)
    return trial


def replay(trial: TuneTrial, logger: LoggerCallback) -> None:
    """Tell a logger of a finished trial, from its start to its last report."""
    logger.on_trial_start(0, [], trial)
    logger.on_trial_result(0, [], trial, dict(trial.last_result))
    logger.on_trial_complete(0, [], trial)


def _log_again(result: Result, run: Path) -> None:
    """Have Tune's loggers write the last report of a trial into a folder of its own."""
    shutil.rmtree(run / TUNE / result.folder, ignore_errors=True)
    trial = finished_trial(result, run)
    trial.init_local_path()
    for logger in (JsonLoggerCallback(), CSVLoggerCallback(), TBXLoggerCallback()):
        replay(trial, logger)
    _put_away(trial)
    os.rmdir(trial.local_path)
