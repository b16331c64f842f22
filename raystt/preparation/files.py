"""What makes preparation resumable: the config that a directory belongs to, and its lock."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from raystt import remote
from raystt.config.changes import changed
from raystt.errors import PrepareError
from raystt.files import edited, remove_unfinished, write_atomic

WORK = "work"
"""Directory of what is needed only until the card is written."""

_CONFIG = "config.json"


def locked(directory: Path) -> AbstractContextManager[None]:
    """Hold a corpus for this process (`raystt.remote.held`).

    Raises:
        PrepareError: Another process holds it.
    """
    return remote.held(directory, PrepareError(
        f"{remote.named(directory)}: another process is preparing this corpus; wait for it to end"
    ))  # fmt: skip


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
    elif any(not entry.name.startswith(".") for entry in directory.iterdir()):
        raise PrepareError(
            f"{remote.named(directory)}: not empty, and not a corpus that raystt began; set "
            "another `corpus.path`, or empty the directory"
        )
    else:
        write_atomic(note, json.dumps(config, indent=1) + "\n")
    remove_unfinished(directory)


def same_config(directory: Path, held: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse a directory that was prepared with another config.

    Raises:
        PrepareError: naming both configs, where they differ, and the fix.
    """
    changes = "; ".join(f"corpus.{change}" for change in changed(held, asked))
    if changes:
        raise PrepareError(
            f"{remote.named(directory)}: holds the corpus of config {config_hash(held)}, asked is "
            f"{config_hash(asked)} ({changes}); set another `corpus.path`, or delete the "
            "directory to prepare it anew"
        )


def same_tables(directory: Path, held: dict[str, str]) -> None:
    """Refuse a directory that was prepared from tables that have changed since.

    Args:
        directory: of the corpus.
        held: hashes of the tables by path; those that are not on this machine are passed over.

    Raises:
        PrepareError: naming the tables and the fix.
    """
    changed = edited(held)
    if changed:
        raise PrepareError(
            f"{', '.join(changed)}: changed since {remote.named(directory)} was prepared from it; "
            f"set another `corpus.path`, or delete {remote.named(directory)} to prepare it anew"
        )
