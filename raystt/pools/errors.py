"""What goes wrong in a pool, and whose fault it is: the job's, or what it runs on."""

from __future__ import annotations

import traceback
from pathlib import Path

import ray

from raystt import remote
from raystt.errors import BadInput
from raystt.files import storage_error
from raystt.training.jobs import StateLost

_OF_THE_INPUT = (BadInput, ValueError, TypeError, LookupError, ArithmeticError, AssertionError)


class JobFailed(RuntimeError):
    """A segment or an evaluation could not be done; the text is the worker's own error."""


class Interrupted(RuntimeError):
    """A job was not done, through no fault of its own: it can be run again as it is."""


class StorageLost(Interrupted):
    """The storage took no data: full, read-only, or gone."""


def answer(error: Exception, directory: str | None, *, alone: bool) -> Exception | None:
    """Return what is answered for an error that a worker met.

    Args:
        error: The error.
        directory: Where the worker writes; None = nowhere.
        alone: Whether the worker has no peers. With peers, only errors of the input are surely the
            job's: that of a dead peer looks like any other of torch's.

    Returns:
        None where it is not known to be the job's: the group may try again.
    """
    if isinstance(error, StateLost | JobFailed | Interrupted):
        return error
    text = f"{type(error).__name__}: {error}"
    if storage_error(error):
        return StorageLost(text)
    unwritten = None if directory is None else remote.unwritable(Path(directory))
    if unwritten:
        return StorageLost(f"{unwritten} ({text})")
    if alone or isinstance(error, _OF_THE_INPUT):
        return JobFailed(f"{text}\n{''.join(traceback.format_exception(error, limit=-4))}")
    return None


def unwrapped(error: ray.exceptions.RayError) -> Exception:
    """Return the pool's own error out of Ray's wrapping; a lost actor is an interruption."""
    found = error.cause if isinstance(error, ray.exceptions.RayTaskError) else None
    if isinstance(found, StateLost | JobFailed | Interrupted):
        return found
    if found is not None and not isinstance(found, ray.exceptions.RayError):
        return JobFailed(f"{type(found).__name__}: {found}")
    return Interrupted(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
