"""Run one function in a worker group of Ray Train, and wait for it."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from raystt.config import ResourcesConfig


def train_in_group(function: Callable[[Any], None], job: Any, resources: ResourcesConfig) -> None:
    """Call `function(job)` in `resources.encoders` workers of one process group.

    A started Ray is needed (`raystt.cluster.start.ray_session`). The workers share a torch
    process group (NCCL with GPUs, gloo without) and sit on the device that
    `ray.train.torch.get_device()` names. A group that lost its node to a pre-emption is started
    again, so `function` should continue from what it saved; after any other failure it is not.
    Ray Train's own files go to a temporary folder: results must be written by `function`.

    Args:
        function: Of a module of the package: it is pickled by reference.
        job: Its argument, pickled.
        resources: Number of workers, and the CPUs and GPUs of each.

    Raises:
        Exception: What `function` raised, or Ray's own error where a worker was lost.
        KeyboardInterrupt: The user interrupted; the group is gone.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchTrainer

    def work() -> None:
        function(job)

    per_worker = {"CPU": resources.cpus_per_encoder}
    if resources.gpus_per_encoder:
        per_worker["GPU"] = resources.gpus_per_encoder
    # `fit` in the main thread puts a handler of its own in place and leaves it there.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    with tempfile.TemporaryDirectory(prefix="raystt-train-") as storage:
        trainer = TorchTrainer(
            work,  # and no config: the dashboard would be told of every utterance in it
            scaling_config=ScalingConfig(
                num_workers=resources.encoders,
                use_gpu=resources.gpus_per_encoder > 0,
                resources_per_worker=per_worker,
            ),
            run_config=RunConfig(
                name="group", storage_path=storage, failure_config=FailureConfig(max_failures=0)
            ),
        )
        try:
            trainer.fit()
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
