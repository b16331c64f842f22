"""Where two configs differ, in words."""

from raystt.config.changes import changed


def test_changes_name_key_and_both_values():
    before = {"seed": 1, "units": {"source": 12, "layer": None}, "languages": {"es": {}}, "b": [1]}
    after = {"units": {"source": 13, "layer": None}, "b": [1], "languages": {"es": {"train": "x"}}}
    assert [str(change) for change in changed(before, after)] == [
        "languages.es.train: absent there, 'x' asked",
        "seed: 1 there, absent asked",
        "units.source: 12 there, 13 asked",
    ]


def test_the_order_of_keys_is_no_change():
    one = {"a": {"b": 1, "c": 2}, "d": 3}
    assert not changed(one, {"d": 3, "a": {"c": 2, "b": 1}})
    assert [change.key for change in changed(one, {"a": {"b": 1}, "d": 3})] == [("a", "c")]
