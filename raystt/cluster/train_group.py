"""Worker groups of Ray Train: what one is made of, and one function run in one, and waited for."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raystt.config import ResourcesConfig

if TYPE_CHECKING:
    import torch
    from ray.train import UserCallback
    from ray.train.torch import TorchTrainer

ADDRESS = "RAY_API_SERVER_ADDRESS"
"""Environment variable by which Ray's own state API is told of a cluster."""


def worker_group(
    work: Callable[[], None],
    *,
    name: str,
    workers: int,
    cpus: float,
    gpus: float,
    storage: str,
    restarts: int,
    callbacks: Sequence[UserCallback] = (),
) -> TorchTrainer:
    """Describe a worker group with one torch process group; its `fit()` runs `work()` in each.

    Args:
        work: A closure, pickled by value. Ray Train's own way to hand a config would tell it to the
            dashboard, every utterance of a corpus included.
        name: Folder of Ray Train's own files in `storage`.
        workers: Processes of the group.
        cpus: CPUs of each.
        gpus: GPUs of each.
        storage: Directory for Ray Train's own files.
        restarts: How often the group starts again after an error; -1 = always. A node that was
            pre-empted does not count.
        callbacks: Told of the group's reports and errors, in Ray Train's controller.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    # An actor beside each group asks the cluster's state whether the group's controller lives.
    # Untold, it looks for the cluster in the record of the last `ray start` on its node, be that
    # dead (and waits half a minute for an answer), or among all processes, of whatever cluster.
    os.environ[ADDRESS] = ray.get_runtime_context().gcs_address
    ENV_VARS_TO_PROPAGATE.add(ADDRESS)
    return TorchTrainer(
        work,
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage,
            failure_config=FailureConfig(max_failures=restarts),
            callbacks=list(callbacks),
        ),
    )


def train_in_group(
    function: Callable[[Any, torch.device], None], job: Any, resources: ResourcesConfig
) -> None:
    """Call `function(job, device)` in `resources.encoders` workers of one process group.

    A started Ray is needed (`raystt.cluster.start.ray_session`). The workers share a torch
    process group (NCCL with GPUs, gloo without), each with `resources.threads_per_worker` threads.
    A group that lost its node to a pre-emption is started again, so `function` should continue from
    what it saved; after any other failure it is not. Ray Train's own files go to a temporary
    folder: results must be written by `function`.

    Args:
        function: Of a module of the package: it is pickled by reference.
        job: Its argument, pickled.
        resources: Number of workers, and the CPUs, threads and GPUs of each.

    Raises:
        Exception: What `function` raised, or Ray's own error where a worker was lost.
        KeyboardInterrupt: The user interrupted; the group is gone.
    """
    from ray.train import WorkerGroupError

    def work() -> None:
        import torch
        from ray.train.torch import get_device

        torch.set_num_threads(resources.threads_per_worker)
        # Without a GPU of its own, Ray Train names the first that torch sees.
        device = get_device() if resources.gpus_per_encoder else torch.device("cpu")
        function(job, device)

    # `fit` in the main thread puts a handler of its own in place and leaves it there.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    with tempfile.TemporaryDirectory(prefix="raystt-train-") as storage:
        group = worker_group(
            work, name="group", workers=resources.encoders, cpus=resources.cpus_per_encoder,
            gpus=resources.gpus_per_encoder, storage=storage, restarts=0,
        )  # fmt: skip
        try:
            group.fit()
        except WorkerGroupError as error:
            raise _cause(error.worker_failures, error) from None
        except SystemExit as end:
            # Ray Train's handler ends the process with status 0, as if all had gone well.
            if end.code:
                raise
            raise KeyboardInterrupt from None
        finally:
            if main:
                signal.signal(signal.SIGINT, handler)


def _cause(failures: dict[int, Exception], otherwise: Exception) -> Exception:
    """Return the error of one worker: a rank that lost its peer fails with a RuntimeError."""
    ranks = sorted(failures, key=lambda rank: (isinstance(failures[rank], RuntimeError), rank))
    return failures[ranks[0]] if ranks else otherwise
