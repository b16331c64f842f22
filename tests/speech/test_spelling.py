"""What is spelled of a word, for fine-tuning and for alignment."""

from __future__ import annotations

import pytest

from raystt.speech.spelling import spelling, spoken


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Don’t stop — now!", "don't stop now"),
        ("  Señor\tPeña ", "señor peña"),
        ("sen\u0303or", "señor"),
        ("well-known 'quoted' | <pad>", "wellknown 'quoted' pad"),
        ("3rd of 1,000", "3rd of 1000"),
        ("... ' ...", ""),
        ("Привет, мир.", "привет мир"),
    ],
)
def test_a_text_is_spelled_word_for_word(text: str, spelled: str) -> None:
    assert spelling(text) == spelled
    assert [spoken(word).lower() for word in text.split() if spoken(word)] == spelled.split()


def test_a_word_keeps_its_case_and_its_place() -> None:
    assert spoken("McDonald’s,") == "McDonald's"
    assert spoken("well-known") == "wellknown"
