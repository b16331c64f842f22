"""Finished segments on disk: `states/<key>/`, published whole, verified when used, made again.

```
states/<key>/
  done.json   the segment's result, and size and hash of every file below
  model/      the exported model; none after a divergence
  engine/     what is needed to go on; none at the horizon, or once it was dropped
```

`states/<key>-<trial>-<step>/` is a checkpoint within the segment, until that is finished: an engine
alone. Each trial has its own, by a hash of its name: two may train the same segment at once.

A state that is not what its `done.json` says is discarded: its segment is trained again. What is on
its way in or out bears a name in `.partial`. Errors of the storage itself (permissions, a stale
mount) are no damage and go up as OSError. On an object store a state is there before it is seen on
the node that made it, and other nodes fetch it (`raystt.remote`). Imports no torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from raystt import remote
from raystt.files import remove, sha256, sync, write_atomic
from raystt.training.jobs import MODEL, SegmentResult, StateLost

ENGINE = "engine"
"""Folder of a state that training goes on from."""
DONE = "done.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _File:
    size: int
    sha256: str


@dataclass(frozen=True)
class _Done(SegmentResult):
    """What `done.json` holds: the result, and the files by their paths in the state."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    files: dict[str, _File] = field(kw_only=True)

    def of(self, part: str) -> dict[str, _File]:
        """Return the files of the model or the engine."""
        return {name: file for name, file in self.files.items() if name.startswith(f"{part}/")}


class _Damage(Exception):
    """A state is not what it should be; the text says which file."""


def partial_of(state: Path) -> Path:
    """Return a new name beside a state, for what is not finished or on its way out."""
    return state.with_name(f"{state.name}.{uuid.uuid4().hex[:8]}.partial")


def publish(partial: Path, state: Path, result: SegmentResult) -> None:
    """Make a finished state visible in one rename, when all of it is on the disk.

    Two trials with the same schedule may have trained it side by side: the first one stays.
    Whatever happens, nothing is left at `partial`.
    """
    try:
        paths = sorted(partial.rglob("*"))
        names = [path.relative_to(partial).as_posix() for path in paths if path.is_file()]
        for name in names:
            sync(partial / name)
        hashes = _hash(partial, names)
        files = {n: _File((partial / n).stat().st_size, hashes[n]) for n in names}
        _write(partial, _Done(**asdict(result), files=files))
        for folder in (path for path in paths if path.is_dir()):
            sync(folder)
        remote.publish(partial, state, DONE)
        while True:
            try:
                partial.rename(state)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            if find(state) is not None:
                break
        sync(state.parent)
        let_go(state.parent)
    finally:
        remove(partial)


class Checkpoints:
    """A trial's checkpoints within a segment.

    Args:
        state: The segment's state.
        trial: Directory of the trial, as the job has it.
    """

    def __init__(self, state: Path, trial: str | None) -> None:
        owner = hashlib.sha256(Path(trial or "").name.encode()).hexdigest()[:8]  # runs are moved
        self._start = state.with_name(f"{state.name}-{owner}")

    def at(self, step: int) -> Path:
        """Return the directory of one."""
        return self._start.with_name(f"{self._start.name}-{step}")

    def latest(self) -> SegmentResult | None:
        """Return the last verified one, None if there is none."""
        for checkpoint in reversed(self._all()):
            if (found := find(checkpoint)) is not None:
                return found
        return None

    def drop(self, *, keep: int = 0) -> None:
        """Discard all but the last ones."""
        for checkpoint in self._all()[: -keep or None]:
            discard(checkpoint)

    def _all(self) -> list[Path]:
        states, start = self._start.parent, f"{self._start.name}-"
        there = remote.names(states)
        if there is None:
            there = {path.name for path in states.glob(f"{start}*[0-9]")}
        steps = (name.removeprefix(start) for name in there if name.startswith(start))
        return [self.at(step) for step in sorted(int(one) for one in steps if one.isdecimal())]


def find(state: Path, on_damage: Callable[[str], None] = _LOG.warning) -> SegmentResult | None:
    """Return the result of a finished segment, every file of it verified.

    Args:
        state: Its directory.
        on_damage: Told which file is not what it should be, once the state is discarded.

    Returns:
        None if there is no such state, or not any more.
    """
    remote.fetch(state, DONE)
    if not os.path.lexists(state):
        return None
    try:
        done = _sound(state, (MODEL, ENGINE))
    except _Damage as damage:
        discard(state)
        on_damage(f"{state}: {damage}; discarded, to be trained again")
        return None
    result = {field.name: getattr(done, field.name) for field in fields(SegmentResult)}
    return SegmentResult(**result | {"state": str(state), "reused": True})


def model_of(state: Path) -> Path:
    """Return the directory of a state's model, verified.

    Raises:
        StateLost: It is damaged, and discarded, or gone.
    """
    return _part(state, MODEL)


def engine_of(state: Path) -> Path:
    """Return the directory of what is needed to continue from a state, verified.

    Raises:
        StateLost: It is damaged, dropped or gone; the state is discarded, to be trained again.
    """
    return _part(state, ENGINE)


def drop_engine(state: Path) -> None:
    """Delete what is needed to continue from a state; its model stays.

    A kill at any moment leaves a whole state, with an engine or without.
    """
    try:
        done = _parse(_read(state, remote.read))
    except _Damage:  # told by the next who needs it
        return
    if engine := done.of(ENGINE):
        left = {name: file for name, file in done.files.items() if name not in engine}
        done = replace(done, files=left)
        remote.write(state / DONE, _text(done).encode())
        if state.exists():  # no copy that this node lacks
            _write(state, done)
    remote.delete(state / ENGINE)
    remove(state / ENGINE)


def discard(state: Path) -> None:
    """Take a state away, if it is there: in one step, and for good."""
    remote.delete(state, DONE)
    taken = partial_of(state)
    try:
        state.rename(taken)
    except FileNotFoundError:
        return
    remove(taken)


def sweep(states: Path) -> None:
    """Delete what dead processes left half-written or half-deleted. Nothing else may run."""
    here = {path.name for path in states.glob("*")}
    there = remote.names(states)
    known = here if there is None else there
    for name in here | known:
        if name.endswith(".partial"):
            remote.delete(states / name)
            remove(states / name)
        elif name.partition("-")[0] in known - {name}:  # a checkpoint of a finished segment
            discard(states / name)
    for engine in states.glob("*/engine"):
        try:
            dropped = not _parse(_read(engine.parent)).of(ENGINE)
        except _Damage:
            continue
        if dropped:
            remove(engine)


def let_go(states: Path) -> None:
    """Delete the copies, on this node, of states that the store has no more."""
    if remote.url_of(states) is None:
        return
    here = [copy for copy in states.iterdir() if not copy.name.startswith(".")]
    there = remote.names(states) or set()
    for copy in here:
        if copy.name not in there and not copy.name.endswith(".partial"):
            remove(copy)


def _part(state: Path, part: str) -> Path:
    remote.fetch(state, DONE)
    try:
        if not _sound(state, (part,)).of(part):
            raise _Damage(f"has no {part}")
    except _Damage as damage:
        discard(state)
        raise StateLost(str(state), str(damage)) from None
    return state / part


def _sound(state: Path, parts: Iterable[str]) -> _Done:
    """Verify a state; a copy that is damaged is fetched once more, for the store's may be whole."""
    try:
        return _verified(state, parts)
    except _Damage:
        if remote.url_of(state) is None:
            raise
    remove(state)
    remote.fetch(state, DONE)
    return _verified(state, parts)


def _verified(state: Path, parts: Iterable[str]) -> _Done:
    """Read a state's `done.json` and compare the files of some parts with it."""
    seen, damage = None, _Damage("gone")
    # Its engine may be dropped, or an equal state take its place, while it is looked at.
    while (text := _read(state)) != seen:
        seen = text
        try:
            done = _parse(text)
            _compare(state, {name: file for part in parts for name, file in done.of(part).items()})
            return done
        except _Damage as error:
            damage = error
    raise damage


def _compare(state: Path, files: dict[str, _File]) -> None:
    try:
        for name, file in files.items():  # sizes first: they cost nothing
            size = (state / name).stat().st_size
            if size != file.size:
                raise _Damage(f"{name} has {size} bytes instead of {file.size}")
        for name, found in _hash(state, files).items():
            if found != files[name].sha256:
                raise _Damage(f"{name} is not what was written")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise _Damage(f"{Path(error.filename).relative_to(state)} is missing") from None


def _hash(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Hash files side by side: an engine has one of many gigabytes for each rank."""
    names = list(names)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: sha256(folder / name), names), strict=True))


def _read(state: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> bytes:
    try:
        return read(state / DONE)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise _Damage(f"{DONE} is missing" if os.path.lexists(state) else "gone") from None


def _parse(text: bytes) -> _Done:
    try:
        done = TypeAdapter(_Done).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _Damage(f"{DONE}: {place}{': ' if place else ''}{first['msg']}") from None
    if done.status == "complete" and not done.of(MODEL):
        raise _Damage(f"{DONE} lists no model")
    return done


def _write(state: Path, done: _Done) -> None:
    write_atomic(state / DONE, _text(done))


def _text(done: _Done) -> str:
    return json.dumps(asdict(done), indent=1) + "\n"
