"""What is done with a corpus and with a search, as functions with progress by default.

Each takes a config or the path of its YAML file, and raises `raystt.errors.BadInput` for what the
caller can mend. Ray is started, or joined, for the time of the call. They print no results. What
becomes of one run is in `raystt.runs`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from raystt import remote
from raystt.checking.installation import check_installation
from raystt.config import RunConfig, SearchConfig, load_any, load_search
from raystt.config.loading import Infra, given
from raystt.errors import BadInput
from raystt.progress import StageProgress

if TYPE_CHECKING:
    from raystt.checking.report import Report
    from raystt.corpus.card import Card
    from raystt.preparation.prepare import Stage
    from raystt.searching.opened import Run
    from raystt.searching.progress import Snapshot

Given = Path | str | RunConfig | SearchConfig


def check(config: Given, *, infra: Infra = None, cluster: bool = False) -> Report:
    """Check a run or a search, and say what it would do. Starts nothing.

    Args:
        config: The run or search.
        infra: Where it would run, see `Infra`.
        cluster: Join the cluster that it would join, and hold it against the nodes there.

    Returns:
        The report; its `problems` are what would keep it from running on this machine.

    Raises:
        BadInput: The file is no config.
    """
    from raystt.checking import check as look

    loaded: RunConfig | SearchConfig = given(config, infra, load_any)
    if not cluster:
        return look(config, infra)
    from raystt.cluster.start import alive_nodes, ray_session

    resources = (loaded.base if isinstance(loaded, SearchConfig) else loaded).resources
    if not resources.cluster():
        raise BadInput(
            "resources.address: it names no cluster, nor does RAY_ADDRESS; set it to `auto` or to "
            "an address, or leave out --cluster"
        )
    with ray_session(resources, pools=False):
        nodes = alive_nodes()
    return look(config, infra, nodes)


def prepare(
    config: Given,
    *,
    infra: Infra = None,
    stage: Stage | None = None,
    progress: bool = True,
    verbose: bool = False,
) -> Card | None:
    """Prepare the corpus of a run or a search; goes on where it stopped.

    Args:
        config: The run or search.
        infra: Where it runs, see `Infra`.
        stage: Fit this model only ("encoder", "units", "vocoder"), and what it needs.
        progress: Show the stages on standard error.
        verbose: Let what workers print reach the terminal.

    Returns:
        The card of the corpus; None after a single stage.
    """
    check_installation()
    loaded: RunConfig | SearchConfig = given(config, infra, load_any)
    base = loaded.base if isinstance(loaded, SearchConfig) else loaded
    from raystt.checking import check_run
    from raystt.cluster.start import ray_session
    from raystt.corpus.card import FILE_NAME
    from raystt.preparation.prepare import fit
    from raystt.preparation.prepare import prepare as prepare_corpus

    # Files that a card misses are made anew.
    if not (remote.local(base.corpus.path) / FILE_NAME).exists():
        check_run(config, infra)
    with ExitStack() as stack:
        told = stack.enter_context(StageProgress(show=progress))
        shared = [remote.local(base.corpus.path)]
        session = stack.enter_context(
            ray_session(base.resources, pools=False, shared=shared, verbose=verbose)
        )
        if stage is not None:
            fit(
                stage, base.corpus, resources=session.resources, progress=told,
                on_message=told.message,
            )  # fmt: skip
            return None
        return prepare_corpus(
            base.corpus, resources=session.resources, progress=told,
            interleaving=loaded.interleaving, on_message=told.message,
        )  # fmt: skip


def search(
    config: Path | str | SearchConfig,
    *,
    infra: Infra = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    verbose: bool = False,
) -> Run:
    """Search schedules: prepare the corpus, run one study a language, and write the report.

    Args:
        config: The search.
        infra: Where it runs, see `Infra`.
        resume: Go on with a search that was stopped; finished trials are not repeated.
        overwrite: Delete what is in the directory of the search.
        progress: Show the search on standard error.
        verbose: Let what workers print reach the terminal.

    Returns:
        The search as `open_run` gives it. One that was finished is opened, and not run again.
    """
    check_installation()
    loaded = given(config, infra, load_search)
    from raystt.checking import check_prepared, check_run
    from raystt.report.live import LiveReport
    from raystt.searching.claim import claimed
    from raystt.searching.directory import RunDirectory
    from raystt.searching.progress import SearchProgress
    from raystt.searching.run import run_search

    place = RunDirectory(f"{loaded.base.storage}/{loaded.name}")
    # What is finished needs no sources any more, and no corpus.
    done = not overwrite and place.finished_summary(loaded) is not None
    checked = None if done else check_run(config, infra)
    with (
        claimed(loaded, resume=resume, overwrite=overwrite) as directory,
        ExitStack() as stack,
    ):
        if checked is not None:
            told = stack.enter_context(StageProgress(show=progress))
            shown = stack.enter_context(SearchProgress(loaded.name, show=progress))
            for warning in checked.warnings:
                shown.message(f"warning: {warning}")
            live = LiveReport(
                lambda: report(open_run(directory.path), running=True, figures=False),
                shown.message,
            )
            stack.callback(live.wait)
            before = directory.size()

            def on_progress(snapshot: Snapshot) -> None:
                shown.update(snapshot)
                live.look(directory.size() - before)

            run_search(
                loaded, directory, on_prepare=told,
                on_prepared=lambda: check_prepared(checked, config, infra, shown.message),
                on_progress=on_progress, on_message=shown.message, verbose=verbose,
            )  # fmt: skip
            live.wait()
        run = open_run(directory.path)
        report(run)
    return run


def open_run(path: Path | str) -> Run:
    """Open the directory of a search, finished or still running.

    Raises:
        NoRun: There is no search there, or another version of raystt wrote it.
    """
    from raystt.searching.opened import Run

    return Run(path)


def report(run: Run, *, running: bool = False, figures: bool = True) -> list[Path]:
    """Write `report/` of a search, finished or running, and return its files.

    Without raystt[report] it is the tables alone.

    Args:
        run: The search.
        running: Let the page look for a newer one every minute.
        figures: Draw `schedules.png` too, which takes seconds.
    """
    from raystt.report.page import Content, write_report

    written = write_report(Content(
        run.path, run.search, run.failures, run.summary, run.importances, run.environment, running,
    ), figures=figures)  # fmt: skip
    for path in written:
        remote.update(path)
    return written
