import pytest

from raystt.speech.romanise import romanise


@pytest.mark.slow  # uroman reads its tables for seconds
@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Привет", "ru", "Privet"),
        ("щука", "ru", "shchuka"),
        ("объём", "ru", "obyom"),
        ("объём", "xx", "obem"),  # uroman's rules of Russian alone know ё
        ("κόσμε", "el", "kosme"),
        ("Straße", "de", "Strasse"),
        ("coração", "pt", "corasao"),
        ("smørrebrød", "da", "smoerrebroed"),
        ("łódź", "pl", "lodz"),
        ("नेपाल", "hi", "nepaal"),
        ("你好", "zh-CN", "nihao"),
        ("plain", "en", "plain"),
        ("\U0001f600", "en", "\U0001f600"),
        ("", "en", ""),
    ],
)
def test_words_become_latin(text, language, expected):
    assert romanise(text, language) == expected
