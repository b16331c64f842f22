"""What `raystt check` says of stores."""

from __future__ import annotations

from pathlib import Path

import raystt
from raystt.config import load_search

FIRST = Path(__file__).resolve().parents[2] / "search_spaces" / "first.yaml"


def problems(tmp_path: Path, root: str) -> dict[str, str]:
    infra = tmp_path / "infra.yaml"
    infra.write_text(f"root: {root}\n")
    assert load_search(FIRST, infra).base.storage.startswith(root)
    return {one.key: str(one) for one in raystt.check(FIRST, infra=infra).problems}


def test_a_bucket_that_can_be_written_to_is_fine(bucket: str, tmp_path: Path) -> None:
    assert not problems(tmp_path, bucket)


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    found = problems(tmp_path, "s3://no-such-bucket-here")
    assert set(found) == {"base.storage", "base.corpus.path"}
    assert all("no-such-bucket-here" in text for text in found.values())


def test_a_store_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, "nowhere://bucket")
    assert "nowhere://bucket" in found["base.storage"]
