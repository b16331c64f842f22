"""What a search is tracked with beside TensorBoard: Tune's own callbacks for MLflow and W&B."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.logger import LoggerCallback

from raystt.config import SearchConfig
from raystt.errors import BadInput
from raystt.results import Result
from raystt.searching.experiment import finished_trial, replay

_RUN = "raystt.run"  # tag of MLflow's runs; other searches may run under the same name


class TrackingError(BadInput):
    """A tracker that is asked for cannot be used; the text names the key and the extra."""


def trackers(search: SearchConfig, run: Path) -> list[LoggerCallback]:
    """Return Tune's own callbacks for what a search is tracked with.

    Args:
        search: The search.
        run: Its directory, which holds what is tracked where their environment variables name no
            other place.

    Raises:
        TrackingError: The package of a tracker is not installed.
    """
    return [_tracker(name, search, run) for name in search.tracking]


def _tracker(name: str, search: SearchConfig, run: Path) -> LoggerCallback:
    from ray.air.integrations import mlflow, wandb

    try:
        __import__(name)
    except ImportError:
        raise TrackingError(
            f"tracking: {name} is not installed; install raystt[{name}], or remove it from the list"
        ) from None
    if name == "mlflow":
        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run / 'mlflow.db'}"
        return mlflow.MLflowLoggerCallback(
            tracking_uri=store, experiment_name=search.name, tags={_RUN: _place(run)}
        )
    project = os.environ.get("WANDB_PROJECT", "raystt")
    return wandb.WandbLoggerCallback(project=project, group=search.name, dir=str(run))


def mend(callbacks: Iterable[Callback], finished: Sequence[Result], run: Path) -> None:
    """Tell MLflow what it was not told before a kill.

    Runs that were cut off are ended: as FINISHED if their trial has its result, else as KILLED, for
    it is run again from its start as another run. Results that it never heard of are logged. W&B
    finds out by itself, as nobody answers for its runs any more.

    Args:
        callbacks: Of the search.
        finished: What earlier sessions have finished.
        run: Directory of the search.
    """
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    for callback in callbacks:
        if isinstance(callback, MLflowLoggerCallback):
            _mend_mlflow(callback, {_identity(r.label, r.ended): r for r in finished}, run)


def _mend_mlflow(callback: Any, finished: Mapping[str, Result], run: Path) -> None:
    from mlflow import MlflowClient

    callback.setup()
    client = MlflowClient(tracking_uri=callback.tracking_uri)
    told = set()
    for one in client.search_runs([callback.mlflow_util.experiment_id], max_results=50_000):
        identity = _identity(one.info.run_name, one.data.metrics.get("ended"))
        told.add(identity)
        if one.info.status == "RUNNING" and one.data.tags.get(_RUN) == _place(run):
            if result := finished.get(identity):
                client.set_terminated(one.info.run_id, end_time=round(1000 * result.ended))
            else:
                client.set_terminated(one.info.run_id, "KILLED")
    for identity, result in finished.items():
        if identity not in told:
            replay(finished_trial(result, run), callback)


def _identity(label: str, ended: float | None) -> str:
    """Tell a result from all others: searches, and tries of a trial, share labels."""
    return f"{label} {ended}"


def _place(run: Path) -> str:
    return f"{socket.gethostname()}:{run}"
