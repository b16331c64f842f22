"""Where a process computes: decided by the GPUs it asked for, not by those that it sees."""

from __future__ import annotations

import functools
import shutil

from raystt.errors import BadInput


class NoGpu(BadInput):
    """A process was given GPUs that torch cannot use."""


def device_of(gpus: float, key: str) -> str:
    """Return "cuda" for a share of a GPU, else "cpu".

    Args:
        gpus: GPUs of the process, as in `resources`.
        key: Where that is set, for the message.

    Raises:
        NoGpu: torch sees no GPU.
    """
    if gpus <= 0:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise NoGpu(
            f"resources.{key}: {gpus:g}, but torch sees no GPU on this node; set it to 0, or see "
            "what `nvidia-smi` and `python -m torch.utils.collect_env` say there"
        )
    return "cuda"


def device_here(gpus: float, auto: bool) -> str:
    """Return "cuda" in a process that shares with nobody, if it may have a GPU and there is one.

    Args:
        gpus: GPUs that such a process would have on a cluster, as in `resources`.
        auto: Whether that is to be found (`resources.auto`).
    """
    if not (gpus or auto):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def can_compile() -> bool:
    """Say whether torch can compile for a GPU here: Triton needs a C compiler for its launchers."""
    return any(map(shutil.which, ("gcc", "clang")))
