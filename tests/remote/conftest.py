"""A server of S3, and copies that the tests of a machine do not share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem

from raystt import remote


@pytest.fixture(scope="session")
def _server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(_server: str, tmp_path: Path) -> str:
    """Return the URL of an empty bucket; copies are made below `tmp_path/here`."""
    os.environ |= {
        "AWS_ENDPOINT_URL": _server, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        remote.CACHE: str(tmp_path / "here"),
    }  # fmt: skip
    name = "b" + tmp_path.name.replace("_", "-").lower()[:50].strip("-")
    store, _ = FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")
    store.create_dir(name)
    return f"s3://{name}"


def machine(tmp_path: Path, name: str) -> None:
    """Go on as another machine: with other copies."""
    os.environ[remote.CACHE] = str(tmp_path / name)


def made(directory: Path, **texts: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory
