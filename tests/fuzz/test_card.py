"""The corpus card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from raystt.corpus.card import FILE_NAME, Card, CardError
from tests.corpus.test_card import make_card
from tests.fuzz.harness import damaged, fuzzed, outcome, restructured
from tests.fuzz.tables import TOKENS, VALUES, dumped

_DATA = json.loads(json.dumps(dataclasses.asdict(make_card())))
_WHOLE = json.dumps(_DATA, indent=1).encode()


def looked_at(directory: Path) -> Card:
    """Load a card, and ask it what is asked of it first."""
    card = Card.load(directory)
    card.missing(directory)
    for language, splits in card.languages.items():
        for split in splits:
            card.split(language, split)
    assert card.vocabulary >= 0
    return card


def check(directory: Path, data: bytes) -> None:
    path = directory / FILE_NAME
    path.write_bytes(data)
    card = outcome("corpus card", lambda: looked_at(directory), CardError, [path])
    if card is not None:
        card.save(directory)
        assert Card.load(directory) == card


@fuzzed
@given(data=restructured(_DATA, VALUES).map(dumped) | damaged([_WHOLE], TOKENS) | st.binary())
@example(data=_WHOLE.replace(b'"seed": 1', b'"seed": 1' + b"0" * 5000))
@example(data=b'{"format": 3, "x": ' + b"[" * 100_000)
@example(data=_WHOLE.replace(b"0.25", b"NaN"))
@example(data=_WHOLE.replace(b'"rows": 3', b'"rows": -3'))
@example(data=_WHOLE.replace(b"embedded", b"\\ud800"))
@example(data=_WHOLE.replace(b"embedded", b"\xff"))
@example(data=_WHOLE.replace(b"units/source", b"\\u0000" + b"x" * 300))
@example(data=_WHOLE.replace(b"units/source", b"x" * 300))
def test_cards(tmp_path: Path, data: bytes) -> None:
    check(tmp_path, data)


def test_a_directory_is_no_card(tmp_path: Path) -> Any:
    (tmp_path / FILE_NAME).mkdir()
    outcome("corpus card", lambda: Card.load(tmp_path), CardError, [tmp_path])
    outcome("corpus card", lambda: Card.load(__file__), CardError, [__file__])
