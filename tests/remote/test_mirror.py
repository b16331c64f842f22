"""A directory that one process writes for long, through a real server of S3."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from remote.conftest import machine, made

from raystt import remote
from raystt.remote import mirror
from raystt.remote.place import Place

TAKEN = RuntimeError("taken")


@pytest.fixture
def url(bucket: str) -> str:
    return f"{bucket}/runs/first"


def test_another_machine_goes_on(url: str, tmp_path: Path) -> None:
    run = remote.local(url)
    with remote.held(run, TAKEN):
        made(run, results_jsonl="1\n", states__a__w="big", report__index_html="x")
        (run / "best").mkdir()
        made(tmp_path / "model", w="weights")
        (run / "best/model").symlink_to(tmp_path / "model")
    with remote.held(run, TAKEN):  # at once: it was let go
        (run / "report/index.html").unlink()
    machine(tmp_path, "there")
    run = remote.local(url)
    with remote.held(run, TAKEN):
        found = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
        assert found == {"results.jsonl", "best/model/w", ".owner", ".lock"}
        (run / "results.jsonl").write_text("1\n2\n")
    machine(tmp_path, "here")
    run = remote.local(url)
    with remote.held(run, TAKEN):
        assert (run / "results.jsonl").read_text() == "1\n2\n"
        assert (run / "states/a/w").exists(), "states are fetched one by one, and verified"


def test_what_a_killed_process_had_not_put_there_is_not_lost(url: str, tmp_path: Path) -> None:
    run = remote.local(url)
    with remote.held(run, TAKEN):
        made(run, results_jsonl="1\n")
    (run / "results.jsonl").write_text("1\n2\n")  # as if it had been killed then
    with remote.held(run, TAKEN):
        assert (run / "results.jsonl").read_text() == "1\n2\n"
    machine(tmp_path, "there")
    remote.refresh(remote.local(url))
    assert (remote.local(url) / "results.jsonl").read_text() == "1\n2\n"


def test_only_one_holds_it(url: str, tmp_path: Path) -> None:
    run = remote.local(url)
    with remote.held(run, TAKEN):
        assert remote.is_held(run)
        machine(tmp_path, "there")
        assert remote.is_held(remote.local(url))
        with pytest.raises(RuntimeError, match="taken"), remote.held(remote.local(url), TAKEN):
            raise AssertionError("two hold it")
        machine(tmp_path, "here")
    machine(tmp_path, "there")
    assert not remote.is_held(remote.local(url))


def test_a_lost_machine_is_waited_for_no_longer_than_a_minute(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if it was only slow to answer, it does not write over what came after it."""
    run = remote.local(url)
    with pytest.raises(remote.NoStore, match="another machine"), remote.held(run, TAKEN):
        made(run, results_jsonl="1\n")
        monkeypatch.setattr(mirror, "_FRESH_SECONDS", -1.0)  # its last word is a while ago
        machine(tmp_path, "there")
        with remote.held(remote.local(url), TAKEN):
            made(remote.local(url), results_jsonl="2\n")
        machine(tmp_path, "here")
    assert remote.read(run / "results.jsonl") == b"2\n"


def test_it_is_put_there_meanwhile(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SECONDS", 0.05)
    run, seen = remote.local(url), threading.Event()
    with remote.held(run, TAKEN):
        made(run, results_jsonl="1\n")
        for _ in range(200):
            if "results.jsonl" in (remote.names(run) or ()):
                seen.set()
                break
            seen.wait(0.05)
        assert seen.is_set()
        machine(tmp_path, "there")
        remote.refresh(remote.local(url))  # a reader
        assert (remote.local(url) / "results.jsonl").read_text() == "1\n"
        machine(tmp_path, "here")


def test_a_store_that_is_gone_at_the_end_is_told(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = remote.local(url)
    with (
        pytest.raises(remote.NoStore, match="lies in .*first.* again on this machine"),
        remote.held(run, TAKEN),
    ):
        made(run, results_jsonl="1\n")

        def gone(*_: object) -> None:
            raise OSError("no route")

        monkeypatch.setattr("raystt.remote.place.Place.put", gone)
    assert (run / "results.jsonl").exists()


def test_what_trainers_put_there_stays(url: str, tmp_path: Path) -> None:
    """A driver that goes on lacks the logs of other nodes, and its own may be older."""
    run = remote.local(url)
    with remote.held(run, TAKEN):
        made(run, results_jsonl="1\n", trials__b__train_jsonl="old")
    machine(tmp_path, "there")
    for trial in ("a", "b"):
        log = made(remote.local(url) / "trials" / trial, train_jsonl="new") / "train.jsonl"
        remote.update(log)
    machine(tmp_path, "here")
    with remote.held(run, TAKEN):
        pass
    for trial in ("a", "b"):
        log = run / "trials" / trial / "train.jsonl"
        assert remote.read(log) == b"new"
        remote.get(log)
        assert log.read_text() == "new"


def test_a_reader_fetches_what_has_changed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = remote.local(url)
    with remote.held(run, TAKEN):
        made(run, results_jsonl="1\n", best__es__model__w="big" * 500_000)
    machine(tmp_path, "desk")
    remote.refresh(remote.local(url))
    machine(tmp_path, "here")
    with remote.held(run, TAKEN):
        made(run, results_jsonl="2\n")
    machine(tmp_path, "desk")
    taken: list[str] = []
    get = Place.get
    monkeypatch.setattr(Place, "get", lambda *args: (taken.append(args[1]), get(*args)))
    remote.refresh(remote.local(url))
    assert (remote.local(url) / "results.jsonl").read_text() == "2\n"
    assert "best/es/model/w" not in taken
