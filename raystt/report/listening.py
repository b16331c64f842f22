"""What can be heard of a search: a dozen sentences, and what each model said of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from raystt.evaluation.clips import clip, heard, read_recordings
from raystt.evaluation.jobs import clips_of, hypotheses_of
from raystt.lines import objects
from raystt.results import Result
from raystt.scores import sentence_bleu


@dataclass(frozen=True)
class Word:
    """A word that was heard, or is missing.

    `kind` is "right", "wrong" (heard and not meant) or "missing" (meant and not heard).
    """

    text: str
    kind: str


@dataclass(frozen=True)
class Said:
    """What one model said of a sentence.

    Attributes:
        run: Name of the model.
        words: What the recogniser heard.
        score: Sentence BLEU in [0, 100].
        clip: `data:` address of the MP3; "" where nothing was said or kept.
    """

    run: str
    words: tuple[Word, ...]
    score: float
    clip: str

    @property
    def silent(self) -> bool:
        """Whether the recogniser heard nothing."""
        return all(word.kind == "missing" for word in self.words)


@dataclass(frozen=True)
class Spoken:
    """A sentence: its texts, its recordings, and what the models said.

    `source` may be "", where the corpus has no transcript.
    """

    source: str
    target: str
    source_clip: str
    target_clip: str
    said: tuple[Said, ...]


def listening(folder: Path, trials: Path, runs: Sequence[tuple[str, Result]]) -> list[Spoken]:
    """Return what can be heard of a language.

    Args:
        folder: Its recordings.
        trials: Directory of the trials.
        runs: Models with the names that they are shown under; those whose hypotheses are not there
            are left out.
    """
    models = [_said(trials, one, name) for name, one in runs]
    spoken = []
    for number, one in enumerate(read_recordings(folder)):
        said = tuple(found[one["id"]] for found in models if one["id"] in found)
        source, target = (_address(clip(folder, number, side)) for side in ("source", "target"))
        spoken.append(Spoken(one["source"] or "", one["target"] or "", source, target, said))
    return spoken


def marked(hypothesis: str, reference: str) -> tuple[Word, ...]:
    """Mark the words of a hypothesis by how they align with those of the reference."""
    said, meant = hypothesis.split(), reference.split()
    words: list[Word] = []
    for kind, a, b, c, d in SequenceMatcher(None, said, meant, autojunk=False).get_opcodes():
        if kind == "equal":
            words += [Word(word, "right") for word in said[a:b]]
        else:
            words += [Word(word, "wrong") for word in said[a:b]]
            words += [Word(word, "missing") for word in meant[c:d]]
    return tuple(words)


def _said(trials: Path, one: Result, name: str) -> dict[str | None, Said]:
    """Return what a model said of the sentences that can be heard, by id, as far as it is known."""
    folder = trials / one.folder
    lines = objects(hypotheses_of(folder, one.split))
    found: dict[str | None, Said] = {}
    for number, place in enumerate(heard([line["id"] for line in lines])):
        line = lines[place]
        score = sentence_bleu(np.array(line["statistics"]["asr_bleu"]))
        address = _address(clip(clips_of(folder, one.split), number))
        words = marked(line["hypothesis"], line["reference"])
        found[line["id"]] = Said(name, words, score, address)
    return found


def _address(path: Path) -> str:
    """Return an MP3 as a `data:` address: the page is one file."""
    if not path.exists():
        return ""
    return "data:audio/mpeg;base64," + base64.b64encode(path.read_bytes()).decode()
