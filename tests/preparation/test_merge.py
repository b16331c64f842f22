"""Parts become shards that depend on nothing but the parts."""

import pyarrow.parquet as pq
import pytest

from raystt.corpus.rules import ShardError
from raystt.preparation import merge
from raystt.preparation.rows import text_row
from raystt.readers.utterance import Quarantined


class Words:
    """A tokenizer of one token a word."""

    def encode(self, text):
        words = text.split()
        return [7] * len(words), list(range(len(words) + 1))


def parts(tmp_path, sizes):
    paths, at = [], 0
    for number, size in enumerate(sizes):
        rows = [text_row(f"id-{at + i}", "es", ("uno dos", "one"), Words()) for i in range(size)]
        at += size
        bad = [Quarantined("es", "train", f"bad-{number}", "x.wav", "cut short")]
        paths.append(tmp_path / "work" / f"{number}.parquet")
        merge.write_part(paths[-1], rows, bad)
    return paths


def test_shards_hold_all_rows_in_order_and_no_more_than_asked(tmp_path):
    paths = parts(tmp_path, [3, 0, 4, 2])
    refused = [one for path in paths for one in merge.quarantined(path)]
    assert merge.merged(tmp_path, "es", "train") is None
    merge.merge(tmp_path, paths, "es", "train", 4, refused)
    done = merge.merged(tmp_path, "es", "train")
    assert done is not None
    assert [entry.rows for entry in done.shards] == [4, 4, 1]
    ids = [
        name
        for entry in done.shards
        for name in pq.read_table(tmp_path / entry.path, partitioning=None)["id"].to_pylist()
    ]
    assert ids == [f"id-{i}" for i in range(9)]
    assert [one.id for one in done.quarantined] == ["bad-0", "bad-1", "bad-2", "bad-3"]


def test_a_shard_is_closed_when_it_is_large(tmp_path, monkeypatch):
    paths = parts(tmp_path, [3, 3, 3])
    monkeypatch.setattr(merge, "SHARD_BYTES", sum(path.stat().st_size for path in paths[:2]))
    merge.merge(tmp_path, paths, "es", "dev", 100, [])
    done = merge.merged(tmp_path, "es", "dev")
    assert done is not None
    assert [entry.rows for entry in done.shards] == [6, 3]


def test_a_split_without_a_row_has_no_shard(tmp_path):
    merge.merge(tmp_path, parts(tmp_path, [0]), "es", "test", 4, [])
    done = merge.merged(tmp_path, "es", "test")
    assert done is not None
    assert done.shards == ()


def test_a_split_that_has_lost_a_shard_is_not_merged(tmp_path):
    merge.merge(tmp_path, parts(tmp_path, [3, 3]), "es", "train", 3, [])
    done = merge.merged(tmp_path, "es", "train")
    assert done is not None
    assert done.parts == ("0", "1")
    (tmp_path / done.shards[1].path).unlink()
    assert merge.merged(tmp_path, "es", "train") is None


def test_merging_again_leaves_no_shard_of_before(tmp_path):
    paths = parts(tmp_path, [3, 3])
    merge.merge(tmp_path, paths, "es", "train", 2, [])
    merge.merge(tmp_path, paths, "es", "train", 6, [])
    found = sorted(path.name for path in tmp_path.rglob("part-*.parquet"))
    assert found == ["part-00000.parquet"]


def test_what_was_refused_can_be_tried_again(tmp_path):
    paths = parts(tmp_path, [3, 3])
    sound = tmp_path / "work" / "sound.parquet"
    merge.write_part(sound, [], [])
    merge.merge(tmp_path, [*paths, sound], "es", "train", 6, [])
    merge.forget(tmp_path, [*paths, sound], "es", "train")
    assert merge.merged(tmp_path, "es", "train") is None
    assert sound.exists()
    assert not any(path.exists() for path in paths)


def test_a_damaged_part_is_named(tmp_path):
    paths = parts(tmp_path, [3, 3])
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match=r"1\.parquet.*raystt prepare"):
        merge.merge(tmp_path, paths, "es", "train", 100, [])
    assert merge.merged(tmp_path, "es", "train") is None
