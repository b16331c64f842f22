"""Rows of shards: tokens and units of each word, and sources without a text."""

import numpy as np
import pytest

from raystt.config import CorpusConfig
from raystt.corpus.rows import side, table_of
from raystt.corpus.rules import validate
from raystt.preparation.rows import Heard, RowError, row, text_row, units_card
from raystt.readers.utterance import Recording, Utterance


class Letters:
    """A tokenizer of one token a letter."""

    def encode(self, text):
        words = text.split()
        offsets = np.concatenate([[0], np.cumsum([len(word) for word in words])])
        return [ord(letter) for word in words for letter in word], offsets.tolist()


def card(**units):
    given = {"source": 10, "target": 20, **units}
    config = CorpusConfig.model_validate({"languages": {"es": {"train": 1}}, "units": given})
    return units_card(config, 0.02)


def utterance(source="uno dos", target="one two"):
    return Utterance("a", "es", "train", Recording("a.wav", source), Recording("b.wav", target))


def heard(frames, marks):
    return Heard(np.array(frames, np.int64), marks, 0.02 * len(frames))


MARKS = ((0, 0.0), (1, 0.06))
SOURCE = heard([1, 1, 1, 2, 2, 3], MARKS)
TARGET = heard([4, 4, 5, 5, 5, 5], MARKS)


def test_words_have_their_tokens_and_units():
    made = row(utterance(), {"source": SOURCE, "target": TARGET}, Letters(), card())
    assert made.source.units.tolist() == [1, 2, 3]
    assert made.source.durations.tolist() == [3, 2, 1]
    assert made.source.unit_offsets.tolist() == [0, 1, 3]
    assert made.source.token_offsets.tolist() == [0, 3, 6]
    assert made.target.units.tolist() == [14, 15], "the target's units follow the source's"
    assert made.source.seconds == pytest.approx(0.12)
    validate(table_of([made]), "x")


def test_without_deduplication_every_frame_is_a_unit():
    made = row(
        utterance(), {"source": SOURCE, "target": TARGET}, Letters(), card(deduplicate=False)
    )
    assert made.source.units.tolist() == [1, 1, 1, 2, 2, 3]
    assert made.source.unit_offsets.tolist() == [0, 3, 6]
    assert set(made.source.durations.tolist()) == {1}


def test_one_codebook_for_both_sides():
    shared = card(target=None)
    assert shared.source == shared.target
    assert shared.total == 10
    made = row(utterance(), {"source": SOURCE, "target": TARGET}, Letters(), shared)
    assert made.target.units.tolist() == [4, 5]


def test_a_source_without_text_is_one_group_without_tokens():
    silent = heard([1, 1, 2], None)
    made = row(utterance(source=None), {"source": silent, "target": TARGET}, Letters(), card())
    table = table_of([made])
    validate(table, "x")
    found = side(table, "source", 100)
    assert found.word_counts.tolist() == [1]
    assert found.units.tolist() == [101, 102]
    assert len(found.text) == 0


def test_what_cannot_become_a_row_says_why():
    with pytest.raises(RowError, match="target: the aligner found no way"):
        row(utterance(), {"source": SOURCE, "target": heard([1], None)}, Letters(), card())
    with pytest.raises(RowError, match="source: too short for a single frame of 0.02 s"):
        row(utterance(), {"source": heard([], MARKS), "target": TARGET}, Letters(), card())


def test_text_alone_has_no_units():
    made = text_row("t", "es", ("uno dos", "one"), Letters())
    assert made.source.unit_offsets == [0, 0, 0]
    validate(table_of([made]), "x")
