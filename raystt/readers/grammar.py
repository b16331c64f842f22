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
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "dev", "test", "text")
_POOLS = {"dev": (0, 1), "test": (1, 2), "train": (2, 10), "text": (2, 10)}  # tenths of the hash

# Share of sentences in which an optional slot is filled; gives about 7.5 English words.
_FILLED = {"colour": 0.85, "place": 0.6, "time": 0.6}


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


@dataclass(frozen=True)
class Noun:
    """Singular, plural and grammatical gender (m, f, n)."""

    singular: str
    plural: str
    gender: str = "n"


@dataclass(frozen=True)
class Lexicon:
    """Words of a language by slot, and the two rules that order and inflect them.

    Attributes:
        subjects: (words, person), person one of `1s 3s 1p 3p`.
        verbs: forms by person.
        one: "one" by gender; the other numbers do not inflect.
        numbers: two to six.
        colours: inflected forms, read by `colour_form`.
        colour_form: (gender, plural) -> index into the forms of a colour.
        order: puts the rendered slots into a sentence; empty ones are "".
    """

    subjects: tuple[tuple[str, str], ...]
    verbs: tuple[dict[str, str], ...]
    one: dict[str, str]
    numbers: tuple[str, ...]
    colours: tuple[tuple[str, ...], ...]
    nouns: tuple[Noun, ...]
    places: tuple[str, ...]
    times: tuple[str, ...]
    colour_form: Callable[[str, bool], int]
    order: Callable[[dict[str, str]], tuple[str, ...]]

    def render(self, meaning: Meaning) -> str:
        """Return the sentence of a meaning, words separated by one space."""
        subject, person = self.subjects[meaning.subject]
        noun = self.nouns[meaning.noun]
        plural = meaning.number > 0
        colour = ""
        if meaning.colour >= 0:
            colour = self.colours[meaning.colour][self.colour_form(noun.gender, plural)]
        slots = {
            "subject": subject,
            "verb": self.verbs[meaning.verb][person],
            "number": self.numbers[meaning.number - 1] if plural else self.one[noun.gender],
            "colour": colour,
            "noun": noun.plural if plural else noun.singular,
            "place": self.places[meaning.place] if meaning.place >= 0 else "",
            "time": self.times[meaning.time] if meaning.time >= 0 else "",
        }
        return " ".join(part for part in self.order(slots) if part)


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
    parts = [words for words, _ in lexicon.subjects]
    parts += [form for verb in lexicon.verbs for form in verb.values()]
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


def _persons(*rows: str) -> tuple[dict[str, str], ...]:
    return tuple(dict(zip(("1s", "3s", "1p", "3p"), row.split(), strict=True)) for row in rows)


def _rows(*rows: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row.split()) for row in rows)


def _nouns(*rows: str) -> tuple[Noun, ...]:
    return tuple(Noun(*row.split()) for row in rows)


def _romance_form(gender: str, plural: bool) -> int:
    return (gender == "f") + 2 * plural


def _german_form(gender: str, plural: bool) -> int:
    # Accusative: einen roten, eine rote, ein rotes; without an article, plural: rote.
    return 1 if plural else {"m": 0, "f": 1, "n": 2}[gender]


def _german_order(s: dict[str, str]) -> tuple[str, ...]:
    # The verb stands second: a time in front pushes the subject behind it.
    objects = (s["number"], s["colour"], s["noun"])
    if s["time"]:
        return (s["time"], s["verb"], s["subject"], s["place"], *objects)
    return (s["subject"], s["verb"], *objects, s["place"])


def _german_colours(*stems: str) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{stem}en", f"{stem}e", f"{stem}es") for stem in stems)


LEXICONS: dict[str, Lexicon] = {
    "en": Lexicon(
        subjects=(
            ("i", "1s"),
            ("he", "3s"),
            ("we", "1p"),
            ("the doctor", "3s"),
            ("my brother", "3s"),
            ("my parents", "3p"),
        ),
        verbs=_persons(
            "see sees see see",
            "sell sells sell sell",
            "wash washes wash wash",
            "carry carries carry carry",
            "find finds find find",
            "paint paints paint paint",
        ),
        one={"n": "one"},
        numbers=("two", "three", "four", "five", "six"),
        colours=_rows("red", "blue", "green", "yellow", "black", "white"),
        nouns=_nouns(
            "book books",
            "table tables",
            "flower flowers",
            "apple apples",
            "bottle bottles",
            "letter letters",
            "basket baskets",
            "hat hats",
        ),
        places=(
            "at home",
            "in the garden",
            "in the kitchen",
            "near the river",
            "here",
        ),
        times=("now", "tonight", "every morning", "on monday", "in summer"),
        colour_form=lambda gender, plural: 0,
        order=lambda s: (
            s["subject"],
            s["verb"],
            s["number"],
            s["colour"],
            s["noun"],
            s["place"],
            s["time"],
        ),
    ),
    "es": Lexicon(
        subjects=(
            ("yo", "1s"),
            ("él", "3s"),
            ("nosotros", "1p"),
            ("el médico", "3s"),
            ("mi hermano", "3s"),
            ("mis padres", "3p"),
        ),
        verbs=_persons(
            "veo ve vemos ven",
            "vendo vende vendemos venden",
            "lavo lava lavamos lavan",
            "llevo lleva llevamos llevan",
            "encuentro encuentra encontramos encuentran",
            "pinto pinta pintamos pintan",
        ),
        one={"m": "un", "f": "una"},
        numbers=("dos", "tres", "cuatro", "cinco", "seis"),
        colours=_rows(
            "rojo roja rojos rojas",
            "azul azul azules azules",
            "verde verde verdes verdes",
            "amarillo amarilla amarillos amarillas",
            "negro negra negros negras",
            "blanco blanca blancos blancas",
        ),
        nouns=_nouns(
            "libro libros m",
            "mesa mesas f",
            "flor flores f",
            "manzana manzanas f",
            "botella botellas f",
            "carta cartas f",
            "cesta cestas f",
            "sombrero sombreros m",
        ),
        places=(
            "en casa",
            "en el jardín",
            "en la cocina",
            "cerca del río",
            "aquí",
        ),
        times=("ahora", "esta noche", "cada mañana", "el lunes", "en verano"),
        colour_form=_romance_form,
        order=lambda s: (
            s["time"],
            s["subject"],
            s["verb"],
            s["number"],
            s["noun"],
            s["colour"],
            s["place"],
        ),
    ),
    # French has words without apostrophes and verbs that start with a consonant, so that
    # no elision joins two words into one.
    "fr": Lexicon(
        subjects=(
            ("je", "1s"),
            ("il", "3s"),
            ("nous", "1p"),
            ("le médecin", "3s"),
            ("mon frère", "3s"),
            ("mes parents", "3p"),
        ),
        verbs=_persons(
            "vois voit voyons voient",
            "vends vend vendons vendent",
            "lave lave lavons lavent",
            "porte porte portons portent",
            "trouve trouve trouvons trouvent",
            "peins peint peignons peignent",
        ),
        one={"m": "un", "f": "une"},
        numbers=("deux", "trois", "quatre", "cinq", "six"),
        colours=_rows(
            "rouge rouge rouges rouges",
            "bleu bleue bleus bleues",
            "vert verte verts vertes",
            "jaune jaune jaunes jaunes",
            "noir noire noirs noires",
            "blanc blanche blancs blanches",
        ),
        nouns=_nouns(
            "livre livres m",
            "table tables f",
            "fleur fleurs f",
            "pomme pommes f",
            "bouteille bouteilles f",
            "lettre lettres f",
            "panier paniers m",
            "chapeau chapeaux m",
        ),
        places=(
            "à la maison",
            "dans le jardin",
            "dans la cuisine",
            "près du fleuve",
            "ici",
        ),
        times=("maintenant", "ce soir", "chaque matin", "lundi", "en été"),
        colour_form=_romance_form,
        order=lambda s: (
            s["place"],
            s["subject"],
            s["verb"],
            s["number"],
            s["noun"],
            s["colour"],
            s["time"],
        ),
    ),
    "de": Lexicon(
        subjects=(
            ("ich", "1s"),
            ("er", "3s"),
            ("wir", "1p"),
            ("der arzt", "3s"),
            ("mein bruder", "3s"),
            ("meine eltern", "3p"),
        ),
        verbs=_persons(
            "sehe sieht sehen sehen",
            "verkaufe verkauft verkaufen verkaufen",
            "wasche wäscht waschen waschen",
            "trage trägt tragen tragen",
            "finde findet finden finden",
            "male malt malen malen",
        ),
        one={"m": "einen", "f": "eine", "n": "ein"},
        numbers=("zwei", "drei", "vier", "fünf", "sechs"),
        colours=_german_colours("rot", "blau", "grün", "gelb", "schwarz", "weiß"),
        nouns=_nouns(
            "buch bücher n",
            "tisch tische m",
            "blume blumen f",
            "apfel äpfel m",
            "flasche flaschen f",
            "brief briefe m",
            "korb körbe m",
            "hut hüte m",
        ),
        places=(
            "zu hause",
            "im garten",
            "in der küche",
            "am fluss",
            "hier",
        ),
        times=("jetzt", "heute abend", "jeden morgen", "am montag", "im sommer"),
        colour_form=_german_form,
        order=_german_order,
    ),
}
