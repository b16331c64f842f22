"""The word-level tokenizer of a corpus whose words are known, in Hugging Face's files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from raystt.corpus.card import TokenizerCard
from raystt.preparation.files import building

DIRECTORY = "tokenizer"
PAD, BOS, SEPARATOR, EOS, UNKNOWN = "<pad>", "<s>", "<sep>", "</s>", "<unk>"
_SPECIAL = (PAD, BOS, SEPARATOR, EOS, UNKNOWN)


def word_ids(words: Iterable[str]) -> dict[str, int]:
    """Number the special tokens, then all distinct words in alphabetical order."""
    return {token: i for i, token in enumerate((*_SPECIAL, *sorted(set(words))))}


def card_of(ids: dict[str, int]) -> TokenizerCard:
    """Describe the tokenizer of a vocabulary."""
    return TokenizerCard(
        path=DIRECTORY,
        text_vocabulary=len(ids),
        unit_offset=len(ids),
        bos=ids[BOS],
        separator=ids[SEPARATOR],
        eos=ids[EOS],
        pad=ids[PAD],
    )


def save(ids: dict[str, int], corpus: Path) -> None:
    """Write what `PreTrainedTokenizerFast.from_pretrained` reads, unless it is there.

    The files are written without transformers, whose import takes longer than all of this stage.
    """
    if (corpus / DIRECTORY).exists():
        return
    tokenizer = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(list(_SPECIAL))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "sep_token": SEPARATOR,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
    }
    with building(corpus / DIRECTORY) as folder:
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
