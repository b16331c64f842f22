"""What all tests share: a quiet environment that a test cannot leak out of."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from raystt.config import SearchConfig
    from raystt.corpus.card import Card

# Read by Ray and by numerical libraries when they are imported, hence set before any test is.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")


# A busy machine must not fail a test: none asserts how long an example takes.
settings.register_profile("raystt", deadline=None)
settings.load_profile("raystt")


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Restore the environment and the working directory a test may have changed."""
    before, directory = dict(os.environ), os.getcwd()
    yield
    os.chdir(directory)
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[str]:
    """One Ray of two CPUs for all tests that need no Ray of their own; its dashboard's address.

    It is started beside the record of a cluster that died, which it must not try to join.
    """
    from raystt.cluster.start import ray_session
    from raystt.config import ResourcesConfig

    # Not pytest's own directory: the path of a socket has 107 characters.
    with tempfile.TemporaryDirectory(prefix="raystt-", ignore_cleanup_errors=True) as place:
        record = Path(place, "ray", "ray_current_cluster")
        record.parent.mkdir()
        record.write_text("127.0.0.1:9")
        with pytest.MonkeyPatch.context() as changed:
            changed.setenv("RAY_TMPDIR", place)
            session = ray_session(ResourcesConfig(cpus=2), pools=False)
            dashboard = session.__enter__().dashboard
        try:
            assert dashboard is not None
            yield dashboard
        finally:
            session.__exit__(None, None, None)


@pytest.fixture(scope="session")
def prepared(
    ray_local: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchConfig, Card, list[tuple[str, int, int]]]:
    """A small search, the corpus that was prepared for it, and the progress that was told."""
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("pocketsphinx")
    from searches import small_search

    from raystt.config import SearchConfig
    from raystt.preparation.prepare import prepare

    place = tmp_path_factory.mktemp("small")
    search = SearchConfig.model_validate(small_search(place, place / "corpus", ("es", "fr")))
    told: list[tuple[str, int, int]] = []
    card = prepare(
        search.base.corpus, resources=search.base.resources.model_copy(update={"cpus": 2}),
        progress=lambda *step: told.append(step), interleaving=search.interleaving,
    )  # fmt: skip
    return search, card, told


@pytest.fixture(scope="session")
def small_corpus(prepared: tuple[SearchConfig, Card, object]) -> Path:
    """Directory of the corpus that small searches share."""
    return Path(prepared[0].base.corpus.path).parent


def pytest_collection_finish() -> None:
    """Spare the garbage collector what the tests have imported: DeepSpeed alone calls it often."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the shared Ray; skip what is marked `gpu` where there is no GPU."""
    for item in items:
        if "ray_local" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch  # here, as most selections need none

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
