"""What the ranks of a group do together: one asks for all, and they write to one directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from raystt import remote
from raystt.files import remove
from raystt.training.states import partial_of

_T = TypeVar("_T")


def on_rank_0(ask: Callable[[], _T]) -> _T:
    """Ask on rank 0, and return its answer or raise its error on all ranks."""
    box: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            box[0] = ask()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    answer: _T = box[0]
    return answer


def on_any_rank(found: bool, device: str) -> bool:
    """Say on all ranks whether it was found on one of them."""
    if dist.get_world_size() == 1:
        return found
    box = torch.tensor([int(found)], device=device)
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return bool(box.item())


@contextmanager
def shared_partial(state: Path) -> Iterator[Path]:
    """Yield a new directory for all ranks to write to, which does not outlive an error.

    Where each node has a copy of its own, `collect` brings together what the ranks wrote.
    """
    partial = on_rank_0(lambda: partial_of(state))
    try:
        if dist.get_rank() == 0:
            partial.mkdir(parents=True)
        yield partial
    except BaseException:
        if dist.get_rank() == 0:
            remove(partial)
        raise
    finally:
        if dist.get_rank() and remote.url_of(partial):
            remove(partial)


def collect(partial: Path) -> None:
    """Let rank 0 have what all ranks wrote to a `shared_partial`, whatever their nodes."""
    if dist.get_world_size() == 1 or remote.url_of(partial) is None:
        return
    if dist.get_rank():
        remote.gather(partial, mine=False)
    dist.barrier()
    if dist.get_rank() == 0:
        remote.gather(partial, mine=True)
