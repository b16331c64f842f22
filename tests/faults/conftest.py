"""What the faults share: the search that nothing disturbs, and a count of what was thrown."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState
from searches import Search, small_search

import raystt
from raystt.results import Result

ROUNDS = int(os.environ.get("RAYSTT_FAULTS", "0"))
"""How often each scenario is thrown, with another seed each; 0 = the short part, once."""

Table = dict[tuple[str | None, str], tuple[Any, ...]]
"""Of each run and split of a search, what must not depend on what was killed."""

_MARK = "RAYSTT_FAULTS_SEARCH"
_thrown: Counter[str] = Counter()
_survived: Counter[str] = Counter()
_seconds: list[float] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(max(ROUNDS, 1)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _thrown:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(_thrown.items()))
        longest = f"; at most {max(_seconds):.0f} s to the next result" if _seconds else ""
        terminalreporter.write_line(
            f"faults: {_thrown.total()} thrown, {_survived.total()} survived{longest} ({kinds})"
        )


class Faults:
    """The faults of one scenario; survived once `survived` is called."""

    def __init__(self) -> None:
        self._here: Counter[str] = Counter()

    def throw(self, name: str) -> None:
        self._here[name] += 1
        _thrown[name] += 1

    def survived(self) -> None:
        _survived.update(self._here)

    def goes_on(self, search: Search, since: int) -> None:
        """Wait until there are more results than `since`, or the search has ended."""
        began = time.monotonic()
        while len(search.results()) <= since and search.process.poll() is None:
            assert time.monotonic() < began + 300, search.printed
            time.sleep(0.05)
        _seconds.append(time.monotonic() - began)


@pytest.fixture
def faults() -> Faults:
    return Faults()


def config_of(path: Path, corpus: Path, **resources: Any) -> dict[str, Any]:
    """Return a search of fixed runs, whose scores depend on nothing but their configs."""
    config = small_search(path, corpus)
    config |= {"trials": None, "space": {}, "fidelity": {"segments": 2}, "keep": "fixed"}
    config["ablations"] = {
        "early": {"set": {"schedule.end": 0.4}},
        "hot": {"set": {"training.learning_rate": 1.0e12}},
    }
    if not ROUNDS:
        config["references"].remove("constant")
        del config["ablations"]["early"]
    base = config["base"]
    base["training"] |= {"steps": 90 if ROUNDS else 60, "precision": "fp32"}
    if resources.get("auto"):
        base["resources"] = {"workers_per_trainer": 2, **resources}
    else:
        base["resources"] |= {"workers_per_trainer": 2, "cpus_per_worker": 0.25, **resources}
    return config


Start = Callable[..., Search]


@pytest.fixture
def start(tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a search; it leaves no process behind."""
    started: list[Search] = []
    mark = uuid.uuid4().hex
    monkeypatch.setenv(_MARK, mark)

    def begin(
        *options: str, storage: Path | None = None, corpus: Path | None = None, **resources: Any
    ) -> Search:
        config = config_of(storage or tmp_path, corpus or small_corpus, **resources)
        space = tmp_path / f"small-{len(started)}.yaml"
        space.write_text(yaml.safe_dump(config, sort_keys=False))
        started.append(Search(space, *options))
        return started[-1]

    yield begin
    for search in started:
        search.end()
    limit = time.monotonic() + 30
    while (left := _marked(mark)) and time.monotonic() < limit:
        time.sleep(0.2)
    assert not left, "processes are left: " + "; ".join(left)


def _marked(mark: str) -> list[str]:
    """Return the processes that a search has left."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"{_MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().decode()[:80])
            except OSError:
                continue
    return [command for command in found if command]


def table(results: list[Result]) -> Table:
    return {
        (r.reference, r.split): (
            r.trial, r.status, r.asr_bleu, r.ci, r.loss, r.tokens, r.achieved_words, r.chrf,
            r.states,
        )
        for r in results
    }  # fmt: skip


@pytest.fixture(scope="session")
def small_corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the searches find their corpus: that of the other tests, or of the first of them.

    Nodes cannot be played beside the Ray of the other tests, which listens on loopback alone.
    """
    if ROUNDS:
        return tmp_path_factory.mktemp("corpus")
    search, *_ = request.getfixturevalue("prepared")
    return Path(search.base.corpus.path).parent


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Table:
    """The table of the search that nothing disturbs, with groups of two."""
    return table_of_a_search(tmp_path_factory.mktemp("undisturbed"), small_corpus)


@pytest.fixture(scope="session")
def undisturbed_alone(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Table:
    """The table of the search that nothing disturbs, with groups of one."""
    path = tmp_path_factory.mktemp("alone")
    return table_of_a_search(path, small_corpus, workers_per_trainer=1)


def table_of_a_search(path: Path, corpus: Path, **resources: Any) -> Table:
    """Run a search to its end and return its table."""
    space = path / "small.yaml"
    space.write_text(yaml.safe_dump(config_of(path, corpus, **resources), sort_keys=False))
    search = Search(space)
    search.wait()
    found = table(search.results())
    runs = 5 if ROUNDS else 3
    assert len(found) == 2 * runs - 1  # all on dev, all but the diverged one on test
    assert found["hot", "dev"][1] == "diverged"
    assert len({row[4] for row in found.values()}) == runs  # the losses tell them apart
    return found


def assert_whole(search: Search, undisturbed: Table) -> None:
    """Every trial is known once to results, journal and Tune, as if nothing had happened."""
    results = search.results()
    assert Counter((r.trial, r.split) for r in results).most_common(1)[0][1] == 1
    assert table(results) == undisturbed
    run = raystt.open_run(search.directory)
    scores = {r.trial: r.asr_bleu for r in run.results}
    told = run.study("es").trials
    assert all(trial.state == TrialState.COMPLETE for trial in told)
    assert {trial.number: trial.value for trial in told} == scores
    known = run.experiment.dataframe()
    assert dict(zip(known["config/trial"], known.asr_bleu, strict=True)) == scores
    for pattern in ("states/*.partial", "states/*-*", "states/*/engine", "**/.*.tmp"):
        assert not list(search.directory.glob(pattern))
