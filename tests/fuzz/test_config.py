"""The YAML of a run and of a search."""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given

from raystt.config import ConfigError, RunConfig, load_any, load_run, load_search, to_yaml
from raystt.config.yaml_source import parse
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.yaml_texts import RUN, SEARCH, WHOLES, ladder, laughs, texts


@fuzzed
@given(data=texts(RUN))
def test_runs(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(data)
    run = outcome("run YAML", lambda: load_run(path), ConfigError, [path])
    if run is not None:
        assert RunConfig.model_validate(parse(to_yaml(run)).data) == run
        run.fingerprint()


@fuzzed
@given(data=texts(*WHOLES))
@example(data=laughs(10, 9))
@example(data=ladder(900))
@example(data=b"a: " + b"[" * 100_000)
@example(data=b"? " * 2000)
@example(data=b"- " * 2000)
@example(data=b"a: 1\n" + b"#" * 2_000_000)
@example(data=SEARCH.replace(b"[linear, polynomial, staircase]", b"[" + b"x, 1, " * 9000 + b"]"))
@example(
    data=SEARCH.replace(b"{float: [0.45, 1.0], languages: [es]}", b"{choice: %s}" % bytes(str(
        [0.5 + i / 1000 for i in range(300)]), "ascii")).replace(b"{float: [0.0, 0.4]}",
        b"{choice: %s}" % bytes(str([i / 1000 for i in range(300)]), "ascii"))
)  # fmt: skip
def test_searches(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "search.yaml"
    path.write_bytes(data)
    search = outcome("search YAML", lambda: load_search(path), ConfigError, [path])
    if search is not None:
        path.write_text(to_yaml(search), encoding="utf-8")
        assert load_any(path) == search
        search.fingerprint()
