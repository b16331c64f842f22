"""Who may write to the directory of a search: one search at a time, and always the same one."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raystt import __version__, remote
from raystt.config import SearchConfig, to_yaml
from raystt.config.run import changed_keys
from raystt.errors import BadInput
from raystt.files import remove_unfinished, write_atomic
from raystt.searching.directory import FORMAT, RunDirectory


class RunExists(BadInput):
    """The directory holds another search, an unfinished one, or is in use; the text says which."""


@contextmanager
def claimed(search: SearchConfig, *, resume: bool, overwrite: bool) -> Iterator[RunDirectory]:
    """Lock the directory of a search, `<storage>/<name>`, for the time of the block.

    Args:
        search: The search.
        resume: Continue what is there.
        overwrite: Delete what is there first.

    Raises:
        RunExists: There is a run and neither is set, it was another search, or it is running.
        NoRun: An older raystt wrote what is there.
    """
    directory = RunDirectory(f"{search.base.storage}/{search.name}")
    running = RunExists(
        f"{directory.path}: a search is running in this directory; wait for it, or give this one "
        "another `name`"
    )
    with remote.held(directory.path, running):
        _claim(directory, search, resume=resume, overwrite=overwrite)
        yield directory


def _claim(run: RunDirectory, search: SearchConfig, *, resume: bool, overwrite: bool) -> None:
    """Make a directory this search's own."""
    if overwrite:
        _clear(run)
    elif run.config.exists():
        before = run.load_config()
        begun = _begun(run)  # else nothing can be lost
        # Asking again for what is finished is no mistake: it is shown again.
        if begun and not resume and run.finished_summary(search) is None:
            raise RunExists(
                f"{run.path}: holds a search already; continue it with --resume, delete it "
                "with --overwrite, or give this one another `name`"
            )
        if begun and (changed := _refused_changes(before, search)):
            raise RunExists(
                f"{run.config}: this search was started with another config ({changed}); "
                "resume it with the same one, or give this one another `name`"
            )
        if before.space != search.space:
            _retire(run.journal)
    remove_unfinished(run.path)
    for folder in (run.trials, run.states):
        folder.mkdir(exist_ok=True)
    version = {"format": FORMAT, "raystt": __version__}
    write_atomic(run.version, json.dumps(version) + "\n")
    write_atomic(run.config, to_yaml(search))


def _begun(run: RunDirectory) -> bool:
    """Whether a trial was begun here, or still only the corpus prepared."""
    return run.journal.exists() or run.results.exists() or any(run.states.glob("*"))


def _retire(journal: Path) -> None:
    """Begin new studies, over another space: they are written again from the results."""
    names = (journal.with_name(f"journal.{number}.log") for number in itertools.count(1))
    if journal.exists():
        os.replace(journal, next(name for name in names if not name.exists()))


def _clear(run: RunDirectory) -> None:
    for others in (run.states, run.trials):  # what trainers put there
        remote.delete(others)
    for child in run.path.iterdir():
        if child.name.startswith("."):  # of who holds it
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            os.unlink(child)


def _refused_changes(before: SearchConfig, after: SearchConfig) -> str:
    """Name what keeps a search from going on under another config; "" if nothing does.

    More trials, languages, seeds to confirm on, and a wider space go on from what is there.
    """
    same = after.model_copy(update={"languages": before.languages, "space": before.space})
    found = [] if same.fingerprint() == before.fingerprint() else [changed_keys(before, same)]
    gone = [name for name in before.languages if name not in after.languages]
    if gone:
        found.append(f"languages: {', '.join(gone)} removed")
    for key, entry in before.space.root.items():
        other = after.space.root.get(key)
        if other is None:
            found.append(f"space.{key} removed")
        elif not entry.within(other):
            found.append(f"space.{key} narrower, or drawn in another way")
    return ", ".join(found)
