"""Tokenizers: ids in order, units at the end, and every token belongs to one word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from raystt.errors import PrepareError
from raystt.preparation import tokenizer as tokenizers
from raystt.preparation.tokenizer import TextTokenizer, build_pretrained, build_words

SENTENCES = [
    "the old train to the northern town left late in the evening",
    "I don't know, she said: 42 people were there in 1989!",
    "le garçon était déjà parti à l'école ce matin-là",
    "¿dónde está la biblioteca de la ciudad?",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
]
UNITS = 30


def byte_level() -> tuple[Tokenizer, dict[str, str]]:
    """As Llama 3: byte-level BPE, the space is part of the word, bos and eos but no pad."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 256 + 44)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    assert tokenizer.get_vocab_size() == 300
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    return tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


def metaspace() -> tuple[Tokenizer, dict[str, str]]:
    """As Llama 2 and Gemma: SentencePiece's spaces, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    special = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special + [f"<0x{b:02X}>" for b in range(256)],
        show_progress=False,
        max_token_length=8,
    )
    tokenizer.train_from_iterator((word for s in SENTENCES for word in s.split()), trainer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return tokenizer, names


def word_level() -> tuple[Tokenizer, dict[str, str]]:
    """Without bos, eos and pad."""
    words = sorted({word for s in SENTENCES for word in s.split()})
    ids = {word: i for i, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer, {"unk_token": "[UNK]"}


KINDS = {"byte level": byte_level, "metaspace": metaspace, "word level": word_level}


def hub(kind: str, path: Path) -> Path:
    """Write a tokenizer as it lies on the hub."""
    tokenizer, names = KINDS[kind]()
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module", params=KINDS)
def built(request, tmp_path_factory):
    """Return (name of the kind, the tokenizer as it was, corpus, card)."""
    folder = tmp_path_factory.mktemp("tokenizer")
    source = hub(request.param, folder / "hub")
    card = build_pretrained(str(source), UNITS, folder / "corpus")
    return request.param, Tokenizer.from_file(str(source / "tokenizer.json")), folder, card


def test_what_was_lacking_is_added_and_units_come_last(built) -> None:
    from transformers import AutoTokenizer

    kind, before, folder, card = built
    loaded = AutoTokenizer.from_pretrained(folder / "corpus" / card.path)
    assert card.base_vocabulary == before.get_vocab_size()
    added = {"byte level": 5, "metaspace": 3, "word level": 7}[kind]
    assert card.text_vocabulary == card.unit_offset == card.base_vocabulary + added
    assert len(loaded) == card.text_vocabulary + UNITS
    assert before.get_vocab().items() <= loaded.get_vocab().items()
    ours = (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id)
    assert ours == (card.bos, card.eos, card.pad)
    special = [card.separator, card.mask, card.speech, card.text]
    names = loaded.convert_ids_to_tokens(special)
    assert names == ["<sep>", "<mask>", "<speech>", "<text>"]
    assert len({*ours, *special}) == 7
    if kind == "metaspace":
        assert card.mask < card.base_vocabulary  # its own
    units = [card.unit_offset, card.unit_offset + UNITS - 1]
    text = loaded.decode([card.bos, *units, card.eos], skip_special_tokens=True)
    assert text.split() == ["<unit_0>", f"<unit_{UNITS - 1}>"] or text == "<unit_0><unit_29>"


def test_the_words_tokens_together_are_the_sentences(built) -> None:
    _, before, folder, card = built
    tokenizer = TextTokenizer(folder / "corpus" / card.path)
    assert tokenizer.card == card
    for sentence in SENTENCES:
        ids, offsets = tokenizer.encode(f"  {sentence.replace(' ', '   ')} ")
        words = sentence.split()
        assert ids == before.encode(sentence, add_special_tokens=False).ids
        assert len(offsets) == len(words) + 1 and offsets[0] == 0 and offsets[-1] == len(ids)
        # Every word's tokens decode to that word, hence none lies with its neighbour.
        for word, a, b in zip(words, offsets, offsets[1:], strict=False):
            text = before.decode(ids[a:b])
            assert text.strip() == word, (word, ids[a:b])


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30))
def test_offsets_cover_all_tokens_of_any_text(built, text: str) -> None:
    _, _, folder, card = built
    tokenizer = TextTokenizer(folder / "corpus" / card.path)
    ids, offsets = tokenizer.encode(text)
    assert len(offsets) == len(text.split()) + 1
    assert offsets[0] == 0 and offsets[-1] == len(ids)
    assert all(a <= b for a, b in zip(offsets, offsets[1:], strict=False))
    assert all(token < card.text_vocabulary for token in ids)


def test_special_tokens_in_a_text_are_text(built) -> None:
    _, _, folder, card = built
    tokenizer = TextTokenizer(folder / "corpus" / card.path)
    ids, _ = tokenizer.encode("the <sep> train </s>")
    assert not {card.separator, card.eos, card.bos} & set(ids)
    with pytest.raises(PrepareError, match="name of a speech unit"):
        tokenizer.encode("the <unit_3> train")


def test_beside_a_model_it_is_the_same_tokenizer(built) -> None:
    """The model's kind must not make AutoTokenizer rebuild it as that kind's usual one."""
    from transformers import AutoTokenizer, LlamaConfig

    kind, _, folder, card = built
    model = folder / "model"
    shutil.copytree(folder / "corpus" / card.path, model)
    LlamaConfig(vocab_size=card.text_vocabulary + UNITS).save_pretrained(model)
    loaded = AutoTokenizer.from_pretrained(model)
    tokenizer = TextTokenizer(folder / "corpus" / card.path)
    for sentence in SENTENCES:
        ids, _ = tokenizer.encode(sentence)
        assert loaded(sentence, add_special_tokens=False)["input_ids"] == ids
        assert loaded.decode(ids).strip() == sentence


def test_a_second_build_reads_the_first(built) -> None:
    _, _, folder, card = built
    assert build_pretrained("nobody/nothing", UNITS, folder / "corpus") == card


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="corpus.tokenizer: nobody/nothing@abc: no tokenizer"):
        build_pretrained("nobody/nothing@abc", UNITS, tmp_path)
    source = hub("word level", tmp_path / "hub")
    build_pretrained(str(source), UNITS, tmp_path / "a")
    with pytest.raises(PrepareError, match="it has units already"):
        build_pretrained(str(tmp_path / "a" / "tokenizer"), UNITS, tmp_path / "b")


def test_words_are_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    words = {word for sentence in SENTENCES for word in sentence.split()}
    card = build_words(words, UNITS, tmp_path)
    assert build_words(["other"], UNITS, tmp_path) == card
    loaded = AutoTokenizer.from_pretrained(tmp_path / card.path)
    assert len(loaded) == card.text_vocabulary + UNITS
    assert card.text_vocabulary == card.unit_offset == card.base_vocabulary == len(words) + 8
    frames = (loaded.pad_token_id, loaded.bos_token_id, loaded.sep_token_id, loaded.eos_token_id)
    assert frames == (card.pad, card.bos, card.separator, card.eos)
    ids = tokenizers.word_ids(words)
    tokenizer = TextTokenizer(tmp_path / card.path)
    for sentence in SENTENCES:
        expected = [ids[word] for word in sentence.split()]
        assert tokenizer.encode(sentence) == (expected, list(range(len(expected) + 1)))
        assert loaded(sentence, add_special_tokens=False)["input_ids"] == expected
        assert loaded.decode(expected) == sentence
    assert loaded.decode([card.unit_offset + 7]) == "<unit_7>"
