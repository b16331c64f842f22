"""Directories in a store and their copies, through a real server of S3."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from remote.conftest import machine, made

from raystt import remote
from raystt.files import storage_error

MARKER = "done.json"


def test_a_copy_tells_its_url(tmp_path: Path) -> None:
    os.environ[remote.CACHE] = str(tmp_path)
    for url in ("s3://bucket/a/b", "gs://bucket/a", "file:///mnt/a"):
        path = remote.local(url)
        assert path.is_relative_to(tmp_path) and remote.url_of(path) == url
        assert remote.local(Path(url)) == path, "a Path drops a slash"
    assert remote.local(str(tmp_path / "x")) == tmp_path / "x"
    assert remote.url_of(Path("/somewhere/else")) is None
    assert not remote.is_url("runs") and not remote.is_url("C:/runs")


@pytest.mark.parametrize("url", ["s3://", "s3://b/x?region=eu", "s3://b/../x"])
def test_a_url_names_a_directory_alone(url: str) -> None:
    with pytest.raises(remote.NoStore, match="AWS_ENDPOINT_URL"):
        remote.local(url)


def test_a_store_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    os.environ[remote.CACHE] = str(tmp_path)
    with pytest.raises(remote.NoStore, match="nowhere://bucket"):
        remote.fetch(remote.local("nowhere://bucket/x"), MARKER)


def test_what_is_published_is_fetched_elsewhere(bucket: str, tmp_path: Path) -> None:
    state = remote.local(f"{bucket}/states/a")
    partial = made(tmp_path / "p", done_json="{}", model__w_bin="weights", _hidden="x")
    remote.publish(partial, state, MARKER)
    assert remote.names(state.parent) == {"a"}

    machine(tmp_path, "there")
    state = remote.local(f"{bucket}/states/a")
    assert not state.exists()
    remote.fetch(state, MARKER)
    assert (state / "model/w.bin").read_text() == "weights"
    assert sorted(p.name for p in state.iterdir()) == [MARKER, "model"]

    # The same marker: nothing is looked at. Another one: all is replaced.
    (state / "model/w.bin").write_text("mine")
    remote.fetch(state, MARKER)
    assert (state / "model/w.bin").read_text() == "mine"
    machine(tmp_path, "here")
    again = made(tmp_path / "q", done_json="{1}", new="x")
    remote.publish(again, state_here(bucket), MARKER)
    assert remote.read(state_here(bucket) / MARKER) == b"{}", "the first one stays"
    remote.delete(state_here(bucket), MARKER)
    remote.publish(again, state_here(bucket), MARKER)
    machine(tmp_path, "there")
    remote.fetch(state, MARKER)
    assert (state / MARKER).read_text() == "{1}" and (state / "new").exists()


def state_here(bucket: str) -> Path:
    return remote.local(f"{bucket}/states/a")


def test_what_is_deleted_goes_elsewhere_too(bucket: str, tmp_path: Path) -> None:
    state = state_here(bucket)
    remote.publish(made(tmp_path / "p", done_json="{}", engine__x="x"), state, MARKER)
    remote.fetch(state, MARKER)
    assert state.exists()
    machine(tmp_path, "there")
    remote.delete(state_here(bucket), MARKER)
    assert remote.names(state_here(bucket).parent) == set()
    machine(tmp_path, "here")
    remote.fetch(state, MARKER)
    assert not state.exists()


def test_a_torn_publication_is_not_seen(bucket: str, tmp_path: Path) -> None:
    """What is in the store without its marker is no state."""
    state = state_here(bucket)
    remote.update(made(state, model__w_bin="half") / "model/w.bin")
    machine(tmp_path, "there")
    remote.fetch(state_here(bucket), MARKER)
    assert not state_here(bucket).exists()


def test_ranks_of_several_nodes_come_together(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/states/a.1.partial"
    made(remote.local(url), engine__rank0="0")
    machine(tmp_path, "there")
    remote.gather(made(remote.local(url), engine__rank1="1"), mine=False)
    machine(tmp_path, "here")
    partial = remote.local(url)
    remote.gather(partial, mine=True)
    assert {p.name: p.read_text() for p in (partial / "engine").iterdir()} == {
        "rank0": "0", "rank1": "1",
    }  # fmt: skip
    assert not remote.names(partial.parent), "it is in no store any more"


def test_a_store_that_is_gone_is_a_lost_storage(bucket: str, tmp_path: Path) -> None:
    state = state_here(bucket)
    assert remote.unwritable(state) is None
    absent = remote.local("s3://no-such-bucket-here/states/a")
    assert "no-such-bucket-here" in str(remote.unwritable(absent))
    with pytest.raises(OSError) as caught:
        remote.publish(made(tmp_path / "p", done_json="{}"), absent, MARKER)
    assert caught.value.errno == errno.EIO and storage_error(caught.value)
    assert "no-such-bucket-here" in str(caught.value)


def test_directories_that_are_no_copies_are_left_alone(tmp_path: Path) -> None:
    here = made(tmp_path / "state", done_json="{}")
    remote.fetch(here, MARKER)
    remote.publish(here, here, MARKER)
    remote.delete(here, MARKER)
    remote.update(here / MARKER)
    assert remote.names(here) is None and (here / MARKER).exists()
    assert remote.read(here / MARKER) == b"{}"
