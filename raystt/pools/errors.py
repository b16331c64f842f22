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


def answer(error: Exception, directory: str | None) -> Exception | None:
    """Return what is answered for an error that a worker met.

    Args:
        error: The error.
        directory: Where the worker writes; None = nowhere.

    Returns:
        None where it is not surely the job's, as errors of the input are: that of a dead peer, or
        of a GPU that broke, looks like any other of torch's. Another process may do better.
    """
    if isinstance(error, StateLost | JobFailed | Interrupted):
        return error
    text = f"{type(error).__name__}: {error}"
    if storage_error(error):
        return StorageLost(text)
    run = None if directory is None else Path(directory).parent
    if run is not None and not remote.url_of(run) and not run.is_dir():
        return StorageLost(f"{run} is gone ({text})")
    unwritten = None if directory is None else remote.unwritable(Path(directory))
    if unwritten:
        return StorageLost(f"{unwritten} ({text})")
    if isinstance(error, _OF_THE_INPUT):
        return JobFailed(f"{text}\n{''.join(traceback.format_exception(error, limit=-4))}")
    return None


def said(error: ray.exceptions.RayError) -> StateLost | JobFailed | Interrupted | None:
    """Return what a worker says of its job, out of Ray's wrapping; None = it says nothing."""
    found = error.cause if isinstance(error, ray.exceptions.RayTaskError) else None
    return found if isinstance(found, StateLost | JobFailed | Interrupted) else None


def unwrapped(error: ray.exceptions.RayError) -> Exception:
    """Return the pool's own error out of Ray's wrapping; a lost actor is an interruption."""
    if found := said(error):
        return found
    cause = getattr(error, "cause", None)
    if cause is not None and not isinstance(cause, ray.exceptions.RayError):
        return JobFailed(f"{type(cause).__name__}: {cause}")
    return Interrupted(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
