import itertools
import re

import pytest

from raystt.corpus import grammar
from raystt.corpus.grammar import LEXICONS, SPLITS, Meaning, meanings, pairs, words

SOURCES = ("es", "fr", "de")


def draw_all(sizes, seed=1):
    return {
        (language, split): pairs(language, split, size, seed=seed)
        for language in SOURCES
        for split, size in sizes.items()
    }


def test_it_has_millions_of_distinct_meanings_in_about_80_words():
    assert meanings() == 2_867_200
    assert 75 <= len(words("en")) <= 85


def test_sentences_are_deterministic_and_prefixes_of_each_other():
    few, many = pairs("es", "train", 20, seed=3), pairs("es", "train", 50, seed=3)
    assert many[:20] == few
    assert pairs("es", "train", 20, seed=4) != few
    assert [p.meaning for p in pairs("fr", "train", 20, seed=3)] != [p.meaning for p in few]


def test_the_first_sentence_is_the_documented_one():
    assert pairs("es", "train", 1, seed=1)[0].target == "my brother takes four black apples"


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
        ("en", {"number": 1, "noun": "book"}, "she sees one red book"),
        ("en", {"number": 2, "noun": "book"}, "she sees two red books"),
        ("es", {"number": 1, "noun": "book"}, "ella ve un libro rojo"),
        ("es", {"number": 1, "noun": "table"}, "ella ve una mesa roja"),
        ("es", {"number": 3, "noun": "book"}, "ella ve tres libros rojos"),
        ("es", {"number": 3, "noun": "table"}, "ella ve tres mesas rojas"),
        ("fr", {"number": 1, "noun": "book", "colour": "green"}, "elle voit un livre vert"),
        ("fr", {"number": 1, "noun": "flower", "colour": "green"}, "elle voit une fleur verte"),
        ("fr", {"number": 2, "noun": "flower", "colour": "white"},
         "elle voit deux fleurs blanches"),
        ("de", {"number": 1, "noun": "hat"}, "sie sieht einen roten hut"),
        ("de", {"number": 1, "noun": "bottle"}, "sie sieht eine rote flasche"),
        ("de", {"number": 1, "noun": "book"}, "sie sieht ein rotes buch"),
        ("de", {"number": 4, "noun": "book"}, "sie sieht vier rote bücher"),
        ("de", {"number": 4, "noun": "book", "colour": ""}, "sie sieht vier bücher"),
        ("en", {"number": 2, "noun": "hat", "subject": 7, "verb": "carries"},
         "my parents carry two red hats"),
        ("es", {"number": 2, "noun": "hat", "subject": 7, "verb": "carries"},
         "mis padres llevan dos sombreros rojos"),
        ("fr", {"number": 2, "noun": "hat", "subject": 3, "verb": "takes"},
         "nous prenons deux chapeaux rouges"),
        ("de", {"number": 2, "noun": "hat", "subject": 0, "verb": "takes"},
         "ich nehme zwei rote hüte"),
    ],
)  # fmt: skip
def test_agreement(language, arguments, expected):
    assert sentence(language, **arguments) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "she sees two red books in the garden tonight"),
        ("es", "esta noche ella ve dos libros rojos en el jardín"),
        ("fr", "dans le jardin elle voit deux livres rouges ce soir"),
        ("de", "heute abend sieht sie im garten zwei rote bücher"),
    ],
)
def test_word_order_differs_by_language(language, expected):
    assert sentence(language, number=2, noun="book", place=1, time=1) == expected


def test_lexicons_have_the_same_slots():
    for lexicon in LEXICONS.values():
        for slot in ("subjects", "verbs", "numbers", "colours", "nouns", "places", "times"):
            assert len(getattr(lexicon, slot)) == len(getattr(LEXICONS["en"], slot))
        persons = [person for _, person in lexicon.subjects]
        assert persons == ["1s", "3s", "3s", "1p", "3s", "3s", "3s", "3p"]
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
    counts = [sum(p.meaning.subject == s for p in found) for s in range(8)]
    assert min(counts) > 400
