"""What makes preparation resumable: atomic outputs, the config a directory belongs to, a lock."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raystt.errors import PrepareError
from raystt.files import write_atomic

WORK = "work"
"""Directory of what is needed only until the card is written."""

_CONFIG = "config.json"


@contextmanager
def building(path: Path) -> Iterator[Path]:
    """Yield a temporary path, file or directory, that becomes `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
        if not path.exists():
            os.replace(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for this process; the lock goes with the process, however it ends.

    Raises:
        PrepareError: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrepareError(
                f"{directory}: another process is preparing this corpus; wait for it to end"
            ) from None
        yield


def config_hash(config: dict[str, Any]) -> str:
    """Hash a corpus config, 16 hex digits; the order of its keys does not count."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def claim(directory: Path, config: dict[str, Any]) -> None:
    """Note down whose work the directory holds, and clear what a kill left half-written.

    Raises:
        PrepareError: it holds another corpus, or something else.
    """
    note = directory / _CONFIG
    if note.exists():
        same_config(directory, json.loads(note.read_text(encoding="utf-8")), config)
    elif any(entry.name != ".lock" for entry in directory.iterdir()):
        raise PrepareError(
            f"{directory}: not empty, and not a corpus that raystt began; set another "
            "`corpus.path`, or empty the directory"
        )
    else:
        write_atomic(note, json.dumps(config, indent=1) + "\n")
    for left in [*directory.rglob(".*.tmp")]:
        _remove(left)


def same_config(directory: Path, held: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse a directory that was prepared with another config.

    Raises:
        PrepareError: naming both configs, where they differ, and the fix.
    """
    if config_hash(held) == config_hash(asked):
        return
    changes = [
        f"corpus.{key}: {there!r} there, {here!r} asked"
        for key, (there, here) in differences(held, asked).items()
    ]
    raise PrepareError(
        f"{directory}: holds the corpus of config {config_hash(held)}, asked is "
        f"{config_hash(asked)} ({'; '.join(changes)}); set another `corpus.path`, "
        "or delete the directory to prepare it anew"
    )


def differences(held: dict[str, Any], asked: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values of each dotted key that two configs do not agree in."""
    before, now = _flat(held), _flat(asked)
    pairs = {k: (before.get(k, "absent"), now.get(k, "absent")) for k in sorted({*before, *now})}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
