"""A seeded grammar of parallel sentences: subject, verb, number, colour, noun, place, time.

A sentence is a `Meaning`, an index for each slot; a language renders it with its own word order
and agreement. Rendered text is in spoken form: lower case, no digits, no punctuation.

Every meaning belongs to one of three pools by a hash of itself: `dev`, `test`, and the one that
`train` and `text` draw from. So no size, seed or language can bring a test sentence into training.

    >>> pairs("es", "train", 1, seed=1)[0].target
    'my brother paints two yellow apples'
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from math import prod
from typing import Literal, NamedTuple, get_args

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

SPLITS = ("train", "dev", "test", "text")
_POOLS = {"dev": (0, 1), "test": (1, 2), "train": (2, 10), "text": (2, 10)}  # tenths of the hash

# Share of sentences in which an optional slot is filled; gives about 7.5 English words.
_FILLED = {"colour": 0.85, "place": 0.6, "time": 0.6}

Person = Literal["1s", "3s", "1p", "3p"]
Gender = Literal["m", "f", "n"]
Slot = Literal["subject", "verb", "number", "colour", "noun", "place", "time"]


class Meaning(NamedTuple):
    """A sentence without a language; -1 means that an optional slot is empty."""

    subject: int
    verb: int
    number: int  # 0 is "one"
    colour: int
    noun: int
    place: int
    time: int


@dataclass(frozen=True)
class Pair:
    """A sentence in two languages."""

    meaning: Meaning
    source: str
    target: str


class Noun(NamedTuple):
    """Singular, plural and grammatical gender."""

    singular: str
    plural: str
    gender: Gender


class Lexicon(BaseModel):
    """Words of a language by slot, and the rules that order and inflect them; see `grammar.yaml`.

    Attributes:
        subjects: person by words.
        verbs: forms by person.
        one: "one" by gender.
        numbers: two to six.
        colours: inflected forms.
        colour_forms: by gender, which form is singular and which plural.
        order: of the slots in a sentence.
        order_with_time: of those of a sentence with a time, where that differs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: dict[str, Person]
    verbs: tuple[tuple[str, str, str, str], ...]
    one: dict[Gender, str]
    numbers: tuple[str, ...]
    colours: tuple[tuple[str, ...], ...]
    colour_forms: dict[Gender, tuple[int, int]]
    nouns: tuple[Noun, ...]
    places: tuple[str, ...]
    times: tuple[str, ...]
    order: tuple[Slot, ...]
    order_with_time: tuple[Slot, ...] | None = None

    def render(self, meaning: Meaning) -> str:
        """Return the sentence of a meaning, words separated by one space."""
        subject, person = list(self.subjects.items())[meaning.subject]
        noun = self.nouns[meaning.noun]
        plural = meaning.number > 0
        slots = {
            "subject": subject,
            "verb": self.verbs[meaning.verb][get_args(Person).index(person)],
            "number": self.numbers[meaning.number - 1] if plural else self.one[noun.gender],
            "noun": noun.plural if plural else noun.singular,
        }
        if meaning.colour >= 0:
            form = self.colour_forms[noun.gender][plural]
            slots["colour"] = self.colours[meaning.colour][form]
        if meaning.place >= 0:
            slots["place"] = self.places[meaning.place]
        order = self.order
        if meaning.time >= 0:
            slots["time"] = self.times[meaning.time]
            order = self.order_with_time or order
        return " ".join(slots[slot] for slot in order if slot in slots)


def pairs(language: str, split: str, count: int, *, seed: int, target: str = "en") -> list[Pair]:
    """Draw `count` distinct sentences of a split; the first n do not depend on `count`.

    Args:
        language: source language, a key of `LEXICONS`.
        split: one of `SPLITS`.
        count: number of sentences.
        seed: of the corpus; also decides nothing else but which sentences are drawn.
        target: target language.

    Raises:
        ValueError: unknown language or split, or more sentences than the pool can give.
    """
    for name in (language, target):
        if name not in LEXICONS:
            raise ValueError(
                f"language {name!r} is not in the embedded grammar; use {', '.join(LEXICONS)}"
            )
    if split not in _POOLS:
        raise ValueError(f"split {split!r} is unknown; use {', '.join(SPLITS)}")
    low, high = _POOLS[split]
    # Half of the pool keeps the draw by rejection quick, and is far above any sensible corpus.
    limit = meanings() * (high - low) // 20
    if count > limit:
        raise ValueError(f"{split}: {count} sentences asked, the grammar gives up to {limit}")
    generator = np.random.default_rng(_digest(f"{seed}/{language}/{split}"))
    drawn: dict[Meaning, None] = {}  # a dict keeps the order of drawing
    while len(drawn) < count:
        meaning = _draw(generator)
        if low <= _digest(repr(tuple(meaning))) % 10 < high:
            drawn[meaning] = None
    source, other = LEXICONS[language], LEXICONS[target]
    return [Pair(m, source.render(m), other.render(m)) for m in drawn]


def meanings() -> int:
    """Count the distinct meanings of the grammar."""
    english = LEXICONS["en"]
    optional = (english.colours, english.places, english.times)
    required = (english.subjects, english.verbs, english.nouns)
    numbers = len(english.numbers) + 1
    return prod(len(s) for s in required) * numbers * prod(len(s) + 1 for s in optional)


def words(language: str) -> list[str]:
    """List every word that a sentence of a language can hold, in alphabetical order."""
    lexicon = LEXICONS[language]
    parts = [*lexicon.subjects]
    parts += [form for verb in lexicon.verbs for form in verb]
    parts += [*lexicon.one.values(), *lexicon.numbers]
    parts += [form for forms in lexicon.colours for form in forms]
    parts += [form for noun in lexicon.nouns for form in (noun.singular, noun.plural)]
    parts += [*lexicon.places, *lexicon.times]
    return sorted({word for part in parts for word in part.split()})


def _draw(generator: np.random.Generator) -> Meaning:
    english = LEXICONS["en"]
    sizes = {
        "subject": len(english.subjects),
        "verb": len(english.verbs),
        "number": len(english.numbers) + 1,
        "colour": len(english.colours),
        "noun": len(english.nouns),
        "place": len(english.places),
        "time": len(english.times),
    }
    slots = {
        name: int(generator.integers(size)) if generator.random() < _FILLED.get(name, 1.0) else -1
        for name, size in sizes.items()
    }
    return Meaning(**slots)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _load() -> dict[str, Lexicon]:
    text = resources.files("raystt.readers").joinpath("grammar.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Lexicon]).validate_python(yaml.safe_load(text))


LEXICONS: dict[str, Lexicon] = _load()
