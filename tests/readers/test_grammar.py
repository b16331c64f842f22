import hashlib
import itertools
import re

import pytest

from raystt.readers import grammar
from raystt.readers.grammar import LEXICONS, SPLITS, Meaning, meanings, pairs, words

SOURCES = ("es", "fr", "de")


def draw_all(sizes, seed=1):
    return {
        (language, split): pairs(language, split, size, seed=seed)
        for language in SOURCES
        for split, size in sizes.items()
    }


def test_it_has_many_meanings_in_few_words():
    assert meanings() == 435_456
    assert 60 <= len(words("en")) <= 65


def test_sentences_are_deterministic_and_prefixes_of_each_other():
    few, many = pairs("es", "train", 20, seed=3), pairs("es", "train", 50, seed=3)
    assert many[:20] == few
    assert pairs("es", "train", 20, seed=4) != few
    assert [p.meaning for p in pairs("fr", "train", 20, seed=3)] != [p.meaning for p in few]


def test_the_first_sentence_is_the_documented_one():
    assert pairs("es", "train", 1, seed=1)[0].target == "my brother paints two yellow apples"


def test_the_sentences_are_those_that_corpora_were_made_of():
    found = draw_all({split: 500 for split in SPLITS})
    text = "\n".join(f"{p.source}\t{p.target}" for split in found.values() for p in split)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "c0bc51c5d4cb9e80"


@pytest.mark.parametrize("seed", [1, 2])
def test_dev_and_test_never_meet_train_or_text_in_any_language(seed):
    drawn = draw_all({"train": 1000, "dev": 200, "test": 200, "text": 2000}, seed)
    kinds = {kind: set() for kind in ("dev", "test", "training")}
    for (_, split), found in drawn.items():
        kinds[split if split in kinds else "training"] |= {p.meaning for p in found}
    for one, other in itertools.combinations(kinds.values(), 2):
        assert not one & other


def test_sentences_are_distinct_in_both_languages():
    for found in draw_all({"text": 3000}).values():
        assert len({p.meaning for p in found}) == 3000
        assert len({p.source for p in found}) == 3000
        assert len({p.target for p in found}) == 3000


def test_text_is_in_spoken_form_and_in_the_word_list():
    for (language, _), found in draw_all({"text": 1000}).items():
        known = set(words(language))
        for pair in found:
            for text in (pair.source, pair.target):
                assert re.fullmatch(r"[^\W\d_]+( [^\W\d_]+)*", text), text
                assert text == text.lower()
            assert known.issuperset(pair.source.split())
        lengths = [len(p.target.split()) for p in found]
        assert 7.0 < sum(lengths) / len(lengths) < 8.0


def index(language, slot, word):
    entries = getattr(LEXICONS[language], slot)
    return next(i for i, e in enumerate(entries) if word in repr(e))


def sentence(language, *, number, noun, colour="red", subject=1, verb="sees", place=-1, time=-1):
    """Render a meaning that is given in English words."""
    meaning = Meaning(
        subject=subject,
        verb=index("en", "verbs", f"'{verb}'"),
        number=number - 1,
        colour=index("en", "colours", f"'{colour}'") if colour else -1,
        noun=index("en", "nouns", f"'{noun}'"),
        place=place,
        time=time,
    )
    return LEXICONS[language].render(meaning)


@pytest.mark.parametrize(
    ("language", "arguments", "expected"),
    [
        ("en", {"number": 1, "noun": "book"}, "he sees one red book"),
        ("en", {"number": 2, "noun": "book"}, "he sees two red books"),
        ("es", {"number": 1, "noun": "book"}, "él ve un libro rojo"),
        ("es", {"number": 1, "noun": "table"}, "él ve una mesa roja"),
        ("es", {"number": 3, "noun": "book"}, "él ve tres libros rojos"),
        ("es", {"number": 3, "noun": "table"}, "él ve tres mesas rojas"),
        ("fr", {"number": 1, "noun": "book", "colour": "green"}, "il voit un livre vert"),
        ("fr", {"number": 1, "noun": "flower", "colour": "green"}, "il voit une fleur verte"),
        ("fr", {"number": 2, "noun": "flower", "colour": "white"},
         "il voit deux fleurs blanches"),
        ("de", {"number": 1, "noun": "hat"}, "er sieht einen roten hut"),
        ("de", {"number": 1, "noun": "bottle"}, "er sieht eine rote flasche"),
        ("de", {"number": 1, "noun": "book"}, "er sieht ein rotes buch"),
        ("de", {"number": 4, "noun": "book"}, "er sieht vier rote bücher"),
        ("de", {"number": 4, "noun": "book", "colour": ""}, "er sieht vier bücher"),
        ("en", {"number": 2, "noun": "hat", "subject": 5, "verb": "carries"},
         "my parents carry two red hats"),
        ("es", {"number": 2, "noun": "hat", "subject": 5, "verb": "carries"},
         "mis padres llevan dos sombreros rojos"),
        ("fr", {"number": 2, "noun": "hat", "subject": 2, "verb": "paints"},
         "nous peignons deux chapeaux rouges"),
        ("de", {"number": 2, "noun": "hat", "subject": 0, "verb": "paints"},
         "ich male zwei rote hüte"),
    ],
)  # fmt: skip
def test_agreement(language, arguments, expected):
    assert sentence(language, **arguments) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "he sees two red books in the garden tonight"),
        ("es", "esta noche él ve dos libros rojos en el jardín"),
        ("fr", "dans le jardin il voit deux livres rouges ce soir"),
        ("de", "heute abend sieht er im garten zwei rote bücher"),
    ],
)
def test_word_order_differs_by_language(language, expected):
    assert sentence(language, number=2, noun="book", place=1, time=1) == expected


def test_lexicons_have_the_same_slots():
    for lexicon in LEXICONS.values():
        for slot in ("subjects", "verbs", "numbers", "colours", "nouns", "places", "times"):
            assert len(getattr(lexicon, slot)) == len(getattr(LEXICONS["en"], slot))
        assert list(lexicon.subjects.values()) == ["1s", "3s", "1p", "3s", "3s", "3p"]
        assert {noun.gender for noun in lexicon.nouns} <= set(lexicon.one)


def test_refusals_name_what_there_is():
    with pytest.raises(ValueError, match="language 'it' is not in the .* grammar; use en, es"):
        pairs("it", "train", 1, seed=1)
    with pytest.raises(ValueError, match="split 'dve' is unknown; use " + ", ".join(SPLITS)):
        pairs("es", "dve", 1, seed=1)
    most = meanings() // 20
    with pytest.raises(ValueError, match=f"dev: {most + 1} sentences asked, .* up to {most}"):
        pairs("es", "dev", most + 1, seed=1)


def test_the_draw_itself_is_uniform_over_subjects():
    found = grammar.pairs("es", "text", 4000, seed=1)
    counts = [sum(p.meaning.subject == s for p in found) for s in range(6)]
    assert min(counts) > 550
