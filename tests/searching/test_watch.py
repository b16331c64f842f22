"""The thread that looks at a search while it runs."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import tiny_search

from raystt.config import ResourcesConfig
from raystt.searching import watch
from raystt.searching.watch import Watch


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_search_whose_watch_fails_is_stopped_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SNAPSHOT_SECONDS", 0.01)
    told: list[str] = []
    stopped = threading.Event()

    def stop(cause: str) -> None:
        told.append(cause)
        stopped.set()

    ledger: Any = SimpleNamespace(finished=lambda: [])
    growth: Any = SimpleNamespace(concurrent=1, resources=ResourcesConfig())
    searcher: Any = SimpleNamespace(stop=stop, concurrent=0, running=dict)
    nobody: Any = SimpleNamespace()
    one = Watch(
        tiny_search(tmp_path), ledger, nobody, nobody, growth, searcher,
        on_progress=lambda _: None, on_message=told.append,
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="the search broke off"), one:
        assert stopped.wait(60)
        raise RuntimeError("the search broke off")
    assert len(told) == 1 and told[0].startswith("its watch failed: AttributeError: ")
