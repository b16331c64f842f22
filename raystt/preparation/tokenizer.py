"""The text tokenizer of a corpus, in Hugging Face's files: one word a token, or a pretrained one.

Either way the ids are, in this order: what the tokenizer knew, the special tokens that it lacked,
and one token a speech unit (`<unit_0>` and so on). The directory therefore names every id that a
model of the corpus has, and decodes units too; `raystt.json` in it says which id is what.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from raystt.corpus.card import TokenizerCard
from raystt.errors import PrepareError
from raystt.files import replacing
from raystt.hub import pinned

DIRECTORY = "tokenizer"
PAD, BOS, SEPARATOR, EOS, UNKNOWN = "<pad>", "<s>", "<sep>", "</s>", "<unk>"
MASK, SPEECH, TEXT = "<mask>", "<speech>", "<text>"
_SPECIAL = (PAD, BOS, SEPARATOR, EOS, UNKNOWN, MASK, SPEECH, TEXT)
_IDS, _FILE = "raystt.json", "tokenizer.json"


def unit_token(unit: int) -> str:
    """Return the token of a speech unit."""
    return f"<unit_{unit}>"


def word_ids(words: Iterable[str]) -> dict[str, int]:
    """Number the special tokens, then all distinct words in alphabetical order."""
    return {token: i for i, token in enumerate((*_SPECIAL, *sorted(set(words))))}


def card_of(ids: dict[str, int]) -> TokenizerCard:
    """Describe the tokenizer of a vocabulary; its text LM is trained on all of it."""
    return TokenizerCard(
        path=DIRECTORY,
        text_vocabulary=len(ids),
        unit_offset=len(ids),
        base_vocabulary=len(ids),
        bos=ids[BOS],
        separator=ids[SEPARATOR],
        eos=ids[EOS],
        pad=ids[PAD],
        mask=ids[MASK],
        speech=ids[SPEECH],
        text=ids[TEXT],
    )


def build_words(words: Iterable[str], units: int, corpus: Path) -> TokenizerCard:
    """Write a tokenizer of one word a token, unless it is there.

    Args:
        words: All words of the corpus, in any order.
        units: Units of the corpus, over both codebooks.
        corpus: Directory of the corpus; the files go to `tokenizer` in it.
    """
    if (corpus / DIRECTORY).exists():
        return _read_ids(corpus / DIRECTORY)
    ids = word_ids(words)
    save(ids, corpus, units)
    return card_of(ids)


def save(ids: dict[str, int], corpus: Path, units: int) -> None:
    """Write the tokenizer of a vocabulary of words and `_SPECIAL`, unless it is there.

    The files are written without transformers, whose import takes longer than all of this stage.
    """
    if (corpus / DIRECTORY).exists():
        return
    tokenizer = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([token for token in ids if token in _SPECIAL])
    tokenizer.add_tokens(_unit_tokens(units))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "sep_token": SEPARATOR,
        "mask_token": MASK,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
    }
    with replacing(corpus / DIRECTORY) as folder:
        folder.mkdir()
        tokenizer.save(str(folder / _FILE))
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
        _write_ids(folder, card_of(ids))


def build_pretrained(name: str, units: int, corpus: Path) -> TokenizerCard:
    """Write a pretrained tokenizer with the special tokens that it lacks and the units.

    Its own bos, eos and pad are kept. `<sep>`, `<mask>`, `<speech>` and `<text>` are added, and
    `<s>`, `</s>` and `<pad>` where it has no such token.

    Args:
        name: Directory, or NAME or NAME@REVISION of the hub.
        units: Units of the corpus, over both codebooks.
        corpus: Directory of the corpus; the files go to `tokenizer` in it.

    Raises:
        PrepareError: There is no such tokenizer, or its ids have holes, or it has units already.
    """
    if (corpus / DIRECTORY).exists():
        return _read_ids(corpus / DIRECTORY)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    place, revision = pinned(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PrepareError(
            f"corpus.tokenizer: {name}: no tokenizer could be loaded ({reason}); give a directory "
            "or a NAME@REVISION of the hub that this machine reaches"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise PrepareError(
            f"corpus.tokenizer: {name}: {type(tokenizer).__name__} gives no positions in the text; "
            "choose one with a tokenizer.json"
        )
    known = len(tokenizer)
    roles = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    lacking = {role: _special(new) for role, new in roles.items() if not getattr(tokenizer, role)}
    tokenizer.add_special_tokens(lacking)
    ours = [SEPARATOR, MASK, SPEECH, TEXT]
    tokenizer.add_tokens([_special(token) for token in ours], special_tokens=True)
    text = len(tokenizer)
    tokenizer.add_tokens(_unit_tokens(units))
    separator, mask, speech, switch = tokenizer.convert_tokens_to_ids(ours)
    card = TokenizerCard(
        path=DIRECTORY,
        text_vocabulary=text,
        unit_offset=text,
        base_vocabulary=known,
        bos=tokenizer.bos_token_id,
        separator=separator,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        mask=mask,
        speech=speech,
        text=switch,
    )
    numbered = tokenizer.convert_tokens_to_ids([unit_token(u) for u in range(units)])
    if numbered != list(range(text, text + units)):
        raise PrepareError(
            f"corpus.tokenizer: {name}: unit tokens would get ids {numbered[0]} to "
            f"{numbered[-1]}, not {text} to {text + units - 1}: its ids have holes, or it has "
            "units already; choose the tokenizer of a text model"
        )
    with replacing(corpus / DIRECTORY) as folder:
        tokenizer.save_pretrained(folder)
        _write_ids(folder, card)
    return card


class TextTokenizer:
    """The tokenizer of a corpus, for its text; needs no transformers.

    Args:
        directory: What `build_words` or `build_pretrained` wrote.

    Attributes:
        card: Which id is what.
    """

    def __init__(self, directory: Path) -> None:
        self.card = _read_ids(directory)
        self._tokenizer = Tokenizer.from_file(str(directory / _FILE))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # `</s>` in a transcript is text that somebody wrote, not the end of the sequence.
        self._tokenizer.encode_special_tokens = True

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """Tokenise a sentence and say which tokens are whose.

        The sentence is tokenised as a whole, its words one space apart, without special tokens. A
        token belongs to the word that its first character is in, the space before a word being
        part of it: so the tokens of all words in order are those of the sentence. A word that a
        tokenizer merges with the one before has no token of its own.

        Args:
            text: A sentence; words are what white space parts.

        Returns:
            Token ids, and offsets `[words + 1]` into them: word w has the ids
            `[offsets[w], offsets[w + 1])`.

        Raises:
            PrepareError: The text holds the token of a unit.
        """
        words = text.split()
        ends, position = [], -1
        for word in words:
            position += 1 + len(word)
            ends.append(position)
        encoded = self._tokenizer.encode(" ".join(words), add_special_tokens=False)
        if any(token >= self.card.text_vocabulary for token in encoded.ids):
            raise PrepareError(f"{text!r}: holds the name of a speech unit; remove it")
        offsets, owner = [0] * (len(words) + 1), 0
        for start, _ in encoded.offsets:
            # A normaliser may give a token a place before that of the token it follows.
            owner = max(owner, min(bisect.bisect_right(ends, start), len(words) - 1))
            offsets[owner + 1] += 1
        for index in range(len(words)):
            offsets[index + 1] += offsets[index]
        return encoded.ids, offsets


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _unit_tokens(units: int) -> list[AddedToken]:
    # Not special: decoding with skip_special_tokens must show them.
    return [AddedToken(unit_token(u), normalized=False) for u in range(units)]


def _write_ids(folder: Path, card: TokenizerCard) -> None:
    text = json.dumps(asdict(card), indent=1) + "\n"
    (folder / _IDS).write_text(text, encoding="utf-8")


def _read_ids(directory: Path) -> TokenizerCard:
    try:
        found: dict[str, Any] = json.loads((directory / _IDS).read_text(encoding="utf-8"))
        return TokenizerCard(**found)
    except (OSError, ValueError, TypeError) as error:
        raise PrepareError(
            f"{directory / _IDS}: not readable ({error}); delete {directory} to build it again"
        ) from error
