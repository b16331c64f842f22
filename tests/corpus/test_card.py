import dataclasses
import json

import pytest

from raystt.corpus.card import (
    Card,
    CardError,
    CodebookCard,
    Part,
    ShardEntry,
    SideCard,
    SplitCard,
    TokenizerCard,
    UnitsCard,
)


def make_card() -> Card:
    shard = ShardEntry("shards/language=es/split=train/part-00000.parquet", 3)
    sides = SideCard(0.25, 20, 120), SideCard(0.5, 21, 130)
    split = SplitCard(3, 1, *sides, (shard,))
    return Card(
        reader="embedded",
        fingerprint="0123456789abcdef",
        config={"seed": 1, "languages": {"es": {"train": 3}}},
        tables={},
        unplaced=0,
        sample_rate=16000,
        target_language="en",
        transcribed=True,
        languages={"es": {"train": split}},
        tokenizer=TokenizerCard("tokenizer", 300, 300, 295, 1, 2, 3, 0, 4, 5, 6),
        units=UnitsCard(
            300,
            0.06,
            True,
            "mfcc",
            CodebookCard("units/source.safetensors", 100, 0),
            CodebookCard("units/target.safetensors", 200, 100),
        ),
        vocoder=Part("conv", "vocoder"),
        asr=Part("pocketsphinx", "asr"),
        base="base",
    )


def test_a_card_comes_back_as_it_was_saved(tmp_path):
    card = make_card()
    card.save(tmp_path)
    assert Card.load(tmp_path) == card
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]
    assert card.vocabulary == 600


def test_whole_numbers_are_read_as_floats_where_floats_belong(tmp_path):
    make_card().save(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(path.read_text().replace('"hours": 0.25', '"hours": 1'))
    hours = Card.load(tmp_path).split("es", "train").source.hours
    assert hours == 1.0
    assert isinstance(hours, float)


def edited(change):
    data = json.loads(json.dumps(dataclasses.asdict(make_card())))
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["card.json", "not valid JSON"]),
        ("[]", ["format", "None"]),
        (edited(lambda d: d.update(format=9)), ["format 3", "9", "new directory"]),
        (edited(lambda d: d.update(extra=1)), ["extra", "unknown key"]),
        (edited(lambda d: d.pop("base")), ["base", "missing key"]),
        (edited(lambda d: d["tokenizer"].update(bos="x")), ["tokenizer.bos", "integer", "'x'"]),
        (edited(lambda d: d["tokenizer"].update(bos=True)), ["tokenizer.bos", "True"]),
        (
            edited(lambda d: d["languages"]["es"]["train"]["shards"][0].pop("rows")),
            ["languages.es.train.shards[0].rows", "missing key"],
        ),
        (edited(lambda d: d["asr"].update(path=3)), ["asr.path", "string", "3"]),
        (edited(lambda d: d.update(languages=[])), ["languages: ", "[]"]),
    ],
)
def test_a_damaged_card_is_refused_by_file_key_and_reason(tmp_path, text, words):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(CardError) as caught:
        Card.load(tmp_path)
    for word in [str(tmp_path), *words]:
        assert word in str(caught.value)


def test_no_card_says_how_to_get_one(tmp_path):
    with pytest.raises(CardError, match=r"card\.json: there is no corpus card; run `raystt prep"):
        Card.load(tmp_path)


def test_unknown_languages_and_splits_name_those_there_are():
    with pytest.raises(CardError, match="no language 'de'; it holds es"):
        make_card().split("de", "train")
    with pytest.raises(CardError, match="no split 'dev' of 'es'; it holds train"):
        make_card().split("es", "dev")


def test_missing_lists_what_the_directory_lacks(tmp_path):
    card = make_card()
    for name in ("tokenizer", "vocoder", "asr", "base"):
        (tmp_path / name).mkdir()
    (tmp_path / "units").mkdir()
    (tmp_path / "units/source.safetensors").touch()
    assert card.missing(tmp_path) == [
        tmp_path / "shards/language=es/split=train/part-00000.parquet",
        tmp_path / "units/target.safetensors",
    ]
