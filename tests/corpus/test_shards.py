import dataclasses
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raystt.corpus.card import SIDES, Card, CardError, ShardEntry, SideCard, SplitCard
from raystt.corpus.rows import SCHEMA, Row, RowSide, side
from raystt.corpus.rules import ShardError, validate
from raystt.corpus.shards import read, read_rows, split_directory, write_shard
from tests.corpus.test_card import make_card


def make_rows(count: int, seed: int = 0, text_only: bool = False) -> list[Row]:
    """Random rows that keep the rules: 1 to 6 groups of 1 to 3 tokens and 1 to 4 units."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        sides = []
        for _ in SIDES:
            groups = rng.integers(1, 7)
            tokens = np.cumsum([0, *rng.integers(1, 4, groups)])
            units = np.cumsum([0, *rng.integers(1, 5, groups)]) * (not text_only)
            side = RowSide(
                text=" ".join(["word"] * int(tokens[-1])),
                tokens=rng.integers(5, 50, tokens[-1]).tolist(),
                token_offsets=tokens.tolist(),
                units=rng.integers(0, 30, units[-1]).tolist(),
                durations=rng.integers(1, 9, units[-1]).tolist(),
                unit_offsets=units.tolist(),
                seconds=1.5,
            )
            sides.append(side)
        rows.append(Row(f"es-train-{i:06d}", "es", "train", *sides))
    return rows


def make_corpus(directory, sizes: list[int]) -> Card:
    shards, at, rows = [], 0, make_rows(sum(sizes))
    for i, size in enumerate(sizes):
        path = f"{split_directory('es', 'train')}/part-{i:05d}.parquet"
        write_shard(rows[at : at + size], directory / path)
        shards.append(ShardEntry(path, size))
        at += size
    split = SplitCard(at, 0, SideCard(0.0, 0, 0), SideCard(0.0, 0, 0), tuple(shards))
    return replace(make_card(), languages={"es": {"train": split}})


def literal_side(rows: list[Row], which: str, unit_token_offset: int) -> dict[str, list[int]]:
    """The ragged arrays of `side`, by loops over words."""
    text, text_offsets, units, unit_offsets, word_offsets = [], [0], [], [0], [0]
    for row in rows:
        held = getattr(row, which)
        tokens, spans = held.tokens, held.token_offsets
        codes, cuts = held.units, held.unit_offsets
        for word in range(len(spans) - 1):
            text += tokens[spans[word] : spans[word + 1]]
            units += [u + unit_token_offset for u in codes[cuts[word] : cuts[word + 1]]]
            text_offsets.append(len(text))
            unit_offsets.append(len(units))
        word_offsets.append(len(text_offsets) - 1)
    return {
        "text": text,
        "text_offsets": text_offsets,
        "units": units,
        "unit_offsets": unit_offsets,
        "word_offsets": word_offsets,
    }


def check_side(table, rows, which):
    found = side(table, which, 100)
    for name, values in literal_side(rows, which, 100).items():
        array = getattr(found, name)
        assert array.tolist() == values, name
        assert array.dtype == (np.int64 if name.endswith("offsets") else np.int32), name


@pytest.mark.parametrize("which", ["source", "target"])
@pytest.mark.parametrize("text_only", [False, True])
def test_side_agrees_with_a_literal_loop(tmp_path, which, text_only):
    rows = make_rows(40, text_only=text_only)
    write_shard(rows, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    check_side(table, rows, which)
    check_side(table.slice(7, 20), rows[7:27], which)
    check_side(table.slice(7, 20).slice(3, 1), rows[10:11], which)
    check_side(pa.concat_tables([table.slice(30), table.slice(0, 5)]), rows[30:] + rows[:5], which)
    check_side(table.take(pa.array([5, 3, 39])), [rows[5], rows[3], rows[39]], which)


def test_side_of_no_rows():
    found = side(SCHEMA.empty_table(), "source", 100)
    assert found.text.tolist() == []
    assert found.text_offsets.tolist() == found.unit_offsets.tolist() == [0]
    assert found.word_offsets.tolist() == [0]


def test_equal_rows_give_equal_bytes(tmp_path):
    write_shard(make_rows(9), tmp_path / "a.parquet")
    write_shard(make_rows(9), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_rows_are_read_in_shard_order(tmp_path):
    card = make_corpus(tmp_path, [4, 3, 5])
    table = read_rows(tmp_path, card, "es", "train")
    assert table["id"].to_pylist() == [f"es-train-{i:06d}" for i in range(12)]
    assert table.schema.equals(SCHEMA)


def test_a_sample_does_not_depend_on_the_order_of_the_shards(tmp_path):
    card = make_corpus(tmp_path, [4, 3, 5])
    split = card.languages["es"]["train"]
    backwards = dataclasses.replace(split, shards=split.shards[::-1])
    turned = dataclasses.replace(card, languages={"es": {"train": backwards}})
    whole = read_rows(tmp_path, card, "es", "train", 99)
    assert sorted(whole["id"].to_pylist()) == [f"es-train-{i:06d}" for i in range(12)]
    assert whole["id"].to_pylist() != sorted(whole["id"].to_pylist())
    for limit in (0, 1, 4, 6, 12):
        sample = read_rows(tmp_path, turned, "es", "train", limit)
        assert sample.equals(whole.slice(0, limit))
        assert sample.schema.equals(SCHEMA)


def test_reading_refuses_by_name(tmp_path):
    card = make_corpus(tmp_path, [4, 3])
    with pytest.raises(CardError, match="no split 'dev'"):
        read_rows(tmp_path, card, "es", "dev")
    damaged = tmp_path / card.languages["es"]["train"].shards[1].path
    damaged.write_bytes(b"PAR1")
    with pytest.raises(ShardError, match="part-00001.parquet: not a readable Parquet file"):
        read_rows(tmp_path, card, "es", "train")
    damaged.unlink()
    with pytest.raises(ShardError, match="part-00001.parquet: the shard .* is missing"):
        read_rows(tmp_path, card, "es", "train")


def in_side(row, which, name, value):
    def change(rows):
        held = getattr(rows[row], which)
        found = value(getattr(held, name)) if callable(value) else value
        rows[row] = replace(rows[row], **{which: replace(held, **{name: found})})

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (in_side(2, "source", "unit_offsets", lambda v: [1, *v[1:]]),
         ["row 2", "source_unit_offsets", "rise from 0"]),
        (in_side(2, "target", "token_offsets", lambda v: [*v[:-1], v[-1] + 1]),
         ["row 2", "target_token_offsets", "number of tokens"]),
        (in_side(1, "target", "token_offsets", lambda v: [0, 99, *v[2:]]), ["row 1"]),
        (in_side(3, "source", "unit_offsets", lambda v: [0, *v]),
         ["row 3", "source_unit_offsets", "token_offsets has"]),
        (in_side(0, "source", "token_offsets", []), ["row 0", "source_token_offsets"]),
        (in_side(3, "target", "durations", lambda v: v[1:]),
         ["row 3", "target_durations", "one value a unit"]),
        (in_side(3, "target", "durations", lambda v: [0, *v[1:]]), ["row 3", "1 frame or more"]),
        (in_side(4, "source", "units", lambda v: [-1, *v[1:]]), ["row 4", "negative"]),
        (lambda rows: rows.append(rows[0]), ["'es-train-000000' appears more than once"]),
        (in_side(4, "source", "text", None), ["row 4", "source_text", "null"]),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_by_file_row_and_column(tmp_path, change, words):
    rows = make_rows(5)
    change(rows)
    with pytest.raises(ShardError) as caught:
        write_shard(rows, tmp_path / "a.parquet")
    for word in ["a.parquet", *words]:
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SCHEMA.names)
def test_a_flipped_bit_of_a_column_is_noticed(tmp_path, name):
    path = tmp_path / "a.parquet"
    write_shard(make_rows(20), path)
    stored = pq.read_metadata(path).row_group(0)
    chunk = stored.column(SCHEMA.names.index(name))
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[first + chunk.total_compressed_size - 1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ShardError, match=r"a\.parquet.*raystt prepare"):
        read(path, 20)


def test_validate_refuses_other_columns():
    table = SCHEMA.empty_table()
    with pytest.raises(ShardError, match=r"a.parquet: source_units: column is missing"):
        validate(table.drop_columns(["source_units"]), "a.parquet")
    wrong = table.set_column(0, "id", pa.array([], pa.list_(pa.int32())))
    with pytest.raises(ShardError, match=r"a.parquet: columns of another type"):
        validate(wrong, "a.parquet")
