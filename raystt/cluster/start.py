"""Start Ray quietly, or join a cluster, and refuse one that can never fit the pools."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from raystt.config import ResourcesConfig
from raystt.errors import BadInput

NAMESPACE = "raystt"

# Ray reads these when it is imported or started, its workers inherit them.
_QUIET = {
    # A worker that asked for no GPU must see none: torch would take it, and NCCL with it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
    # The Train view of Ray's dashboard shows the trainers.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DEEPSPEED_LOG_LEVEL": "error",
    "PYTHONWARNINGS": "ignore",
    # Ten small actors on two cores are no mistake: the warning would say so on every start.
    "RAY_worker_maximum_startup_concurrency": "8",
}


class ClusterTooSmall(BadInput):
    """The cluster cannot hold the pools of `resources`, however long one waits."""


@contextmanager
def ray_session(
    resources: ResourcesConfig, *, pools: bool = True, verbose: bool = False
) -> Iterator[str | None]:
    """Start a local Ray, or join `resources.address`, for the time of the block.

    Gives the address of Ray's dashboard, None where it has none or the block is within another.

    `pools` says whether trainers and evaluators are to fit: a corpus is prepared without them.
    Nothing listens beyond loopback when Ray is started here. What workers print and log goes to
    Ray's log directory, and with `verbose` to the terminal too, as does what Ray itself has to say.

    Raises:
        ClusterTooSmall: The cluster has fewer CPUs or GPUs than the pools need.
        ConnectionError: No cluster answers at the address.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="ray")
    import ray

    level = logging.INFO if verbose else logging.ERROR
    own = not ray.is_initialized()
    dashboard = None
    if own:
        address = resources.address or os.environ.get("RAY_ADDRESS")
        threads = str(resources.threads_per_worker)
        runtime_env = {
            "env_vars": {**_QUIET, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        }
        common = {
            "namespace": NAMESPACE,
            "log_to_driver": verbose,
            "logging_level": level,
            "runtime_env": runtime_env,
        }
        if address:
            context = ray.init(address=address, **common)
        else:
            # "local": beside the record of any cluster on this machine, be it long dead, Ray would
            # join that one.
            context = ray.init(
                address="local",
                num_cpus=resources.local_cpus(),
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                **common,
            )
        if context.dashboard_url:
            dashboard = f"http://{context.dashboard_url}"
        # A session within this one changes nothing: it may not know that this one is verbose.
        for name in ("ray", "ray.tune", "ray.train", "ray.data"):
            logging.getLogger(name).setLevel(level)
    try:
        if pools:
            check_capacity(resources)
        yield dashboard
    finally:
        if own:
            ray.shutdown()


def needed(resources: ResourcesConfig) -> dict[str, float]:
    """Return the CPUs and GPUs that the pools and the data pipeline take."""
    workers = resources.trainers * resources.workers_per_trainer
    return {
        "CPU": resources.reserved_cpus + resources.data_cpus,
        "GPU": workers * resources.gpus_per_worker
        + resources.evaluators * resources.gpus_per_evaluator,
    }


def check_encoders(resources: ResourcesConfig) -> None:
    """Refuse a cluster on which Ray Data would wait for ever while a corpus is prepared.

    Raises:
        ClusterTooSmall: Names what is short and the keys to change.
    """
    import ray

    available = ray.cluster_resources()
    wanted = {
        # What encodes, and one CPU for what decodes audio and writes shards.
        "CPU": resources.encoders * resources.cpus_per_encoder + 1.0,
        "GPU": resources.encoders * resources.gpus_per_encoder,
    }
    for kind, amount in wanted.items():
        if amount > available.get(kind, 0.0) + 1e-6:
            raise ClusterTooSmall(
                f"resources: preparing a corpus needs {amount:g} {kind}, the cluster has "
                f"{available.get(kind, 0.0):g}; lower resources.encoders or "
                "resources.cpus_per_encoder, or add nodes"
            )


def check_capacity(resources: ResourcesConfig) -> None:
    """Refuse a cluster that can never hold the pools.

    Raises:
        ClusterTooSmall: Names what is short and the keys to change.
    """
    import ray

    available = ray.cluster_resources()
    for kind, amount in needed(resources).items():
        if amount > available.get(kind, 0.0) + 1e-6:
            raise ClusterTooSmall(
                f"resources: the pools need {amount:g} {kind}, the cluster has "
                f"{available.get(kind, 0.0):g}; lower resources.trainers, "
                f"resources.workers_per_trainer or resources.evaluators, or add nodes"
            )
