"""Words of any script in Latin letters, for aligners whose alphabet knows no others."""

from __future__ import annotations

from functools import cache, lru_cache

from uroman import Uroman  # type: ignore[import-untyped]

_CODES = {
    "ar": "ara", "be": "bel", "bg": "bul", "de": "deu", "el": "ell", "en": "eng", "fa": "fas",
    "kk": "kaz", "ky": "kir", "lt": "lit", "lv": "lav", "mk": "mkd", "ps": "pus", "ru": "rus",
    "sr": "srp", "tr": "tur", "ug": "uig", "uk": "ukr", "yi": "yid",
}  # fmt: skip
"""Codes of the languages that uroman has rules of their own for."""


@lru_cache(maxsize=2**16)
def romanise(text: str, language: str) -> str:
    """Write a text in Latin letters as uroman does, the romanisation that MMS was trained with.

    What uroman does not know, such as symbols, stays as it is.

    Args:
        text: a word or a part of one.
        language: its language, such as "ru" or "zh-CN"; any other name is accepted.

    >>> romanise("Привет", "ru")
    'Privet'
    """
    return str(_uroman().romanize_string(text, lcode=_CODES.get(language.split("-")[0])))


@cache
def _uroman() -> Uroman:
    return Uroman()  # reads its tables: some seconds
