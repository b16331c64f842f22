"""Start Ray quietly, or join a cluster, and refuse one that can never fit the pools."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raystt import remote
from raystt.cluster.capacity import make_room, pool_bundles
from raystt.cluster.plan import planned
from raystt.cluster.sharing import check_shared
from raystt.cluster.train_group import ADDRESS
from raystt.config import ResourcesConfig
from raystt.errors import BadInput

NAMESPACE = "raystt"
_log = logging.getLogger(__name__)

# Ray reads these when it is imported or started, its workers inherit them.
_QUIET = {
    # A worker that asked for no GPU must see none: torch would take it, and NCCL with it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
    # The Train view of Ray's dashboard shows the trainers.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # An actor of each group that would tell the workers of a node that is going, who do not ask.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
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


class Unprotected(BadInput):
    """A Ray on this machine would run what anybody sends it."""


@dataclass(frozen=True)
class Session:
    """What is known of Ray once it is there.

    Attributes:
        dashboard: Address of Ray's dashboard; None where it has none, or within another session.
        resources: Those that were asked for, with all sizes (`resources: auto`).
    """

    dashboard: str | None
    resources: ResourcesConfig


@contextmanager
def ray_session(
    resources: ResourcesConfig,
    *,
    pools: bool = True,
    shared: Sequence[Path] = (),
    verbose: bool = False,
    on_message: Callable[[str], None] = _log.warning,
) -> Iterator[Session]:
    """Start a local Ray, or join a cluster (`ResourcesConfig.cluster`), for the time of the block.

    What a Ray that is started here listens on is said in docs/guarantees.md. What workers print and
    log goes to Ray's log directory, and with `verbose` to the terminal too, as does what Ray itself
    has to say.

    Args:
        resources: What to join or to start, and what must fit.
        pools: Whether trainers and evaluators are to fit: a corpus is prepared without them.
        shared: Directories that all nodes must share.
        verbose: Let what workers print reach the terminal.
        on_message: Told what is waited for (`resources.wait_for_nodes`).

    Raises:
        ClusterTooSmall: The cluster cannot hold the pools.
        NotShared: A node does not see a directory.
        Unprotected: Ray's token authentication is switched off.
        ConnectionError: No cluster answers at the address.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="ray")
    import ray

    level = logging.INFO if verbose else logging.ERROR
    own = not ray.is_initialized()
    told = {ADDRESS: os.environ[ADDRESS]} if ADDRESS in os.environ else {}
    dashboard = None
    if own:
        threads = str(resources.threads_per_worker)
        env_vars = {
            **_QUIET, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
            # How long Train's controller waits for a word of a worker.
            "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(resources.patience),
            remote.CACHE: str(remote.cache()),
        }  # fmt: skip
        common = {"namespace": NAMESPACE, "log_to_driver": verbose, "logging_level": level}
        address = resources.cluster()
        with _callers_sigterm():
            if address:
                known = _of_the_job()
                missing = {name: value for name, value in env_vars.items() if name not in known}
                context = ray.init(address=address, runtime_env={"env_vars": missing}, **common)
            else:
                context = _start(resources, env_vars, common)
        if context.dashboard_url:
            dashboard = f"http://{context.dashboard_url}"
        # A session within this one changes nothing: it may not know that this one is verbose.
        for name in ("ray", "ray.tune", "ray.train", "ray.data"):
            logging.getLogger(name).setLevel(level)
    try:
        if pools:
            make_room(pool_bundles(planned(resources, alive_nodes())), resources, on_message)
        check_shared(shared)
        yield Session(dashboard, planned(resources, alive_nodes()))
    except SystemExit:
        # A shutdown under threads that wait for Ray, as the trainers have, may crash the process,
        # which ends anyway.
        own = False
        raise
    finally:
        if own:
            os.environ.pop(ADDRESS, None)
            os.environ.update(told)
            ray.shutdown()


def alive_nodes() -> list[dict[str, float]]:
    """Return what each node of the cluster has, whether it is in use or not."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _of_the_job() -> set[str]:
    """Name the environment variables of the Ray job that this is: Ray takes none of them twice."""
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}"))
    return set((job.get("runtime_env") or {}).get("env_vars") or ())


def _start(resources: ResourcesConfig, env_vars: dict[str, str], common: dict[str, Any]) -> Any:
    """Start a Ray on this machine, which others cannot reach and which asks for a token."""
    import ray
    from ray._private import ray_constants

    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise Unprotected(
            f"RAY_AUTH_MODE is {os.environ['RAY_AUTH_MODE']!r}: a Ray without a token runs what "
            "any user of this machine sends it; unset it, or set it to token"
        )
    # Groups on gloo listen where the machine's name leads, unless they are told.
    loopback = os.environ.get("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    # Ray takes a loopback address for its own where it cannot have other nodes, and only there:
    # `_node_ip_address="127.0.0.1"` becomes the machine's outer address.
    ray_constants.ENABLE_RAY_CLUSTER = False
    # In a runtime environment, as a cluster needs, each process would start twice: Ray has another
    # program read it first. What is in this process's own is inherited by all that Ray starts.
    inherited = {**env_vars, "GLOO_SOCKET_IFNAME": loopback}
    before = {name: os.environ.get(name) for name in inherited}
    os.environ.update(inherited)
    try:
        return ray.init(
            # Beside the record of any cluster on this machine, be it long dead, Ray would join it.
            address="local",
            num_cpus=resources.local_cpus(),
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            _system_config={
                # They are for a Prometheus: what none fetches, Ray's agent keeps for ever.
                "enable_metrics_collection": False,
                "num_workers_soft_limit": _idle_processes(resources),
            },
            **common,
        )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _idle_processes(resources: ResourcesConfig) -> int:
    """Return how many processes without work Ray keeps: two for each that trains, and one.

    The two read its data. By default Ray keeps as many as there are free CPUs, and the pools leave
    none: each segment would wait for new processes to start. The one is a process of `prepare`
    that owns an actor of Ray Data, so that Ray counts it but cannot end it.
    """
    return 2 * resources.trainers * resources.workers_per_trainer + 1


@contextmanager
def _callers_sigterm() -> Iterator[None]:
    """Keep the caller's handler of SIGTERM, if it has one: ray.init sets one that exits with 15."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        if callable(handler):
            handler(signal.SIGTERM, None)
        raise
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
