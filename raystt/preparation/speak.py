"""Speak the sentences of the embedded corpus, in parts that a kill can cost one of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raystt.config import CorpusConfig
from raystt.corpus.card import SIDES
from raystt.files import replacing, write_atomic
from raystt.preparation.files import WORK
from raystt.readers.embedded import SOURCE_VOICES, TARGET_VOICES, WORDS_A_MINUTE, TextPair
from raystt.readers.utterance import Recording, Utterance
from raystt.speech import SAMPLE_RATE
from raystt.speech.alignment import Marks

PAIRS = 32
"""Pairs of a part: a second or two of work."""

_FULL_SCALE = 32767.0


def part_path(corpus: Path, language: str, split: str, start: int) -> Path:
    """Return the file that says where the words of the pairs from `start` on begin."""
    return corpus / WORK / "speech" / language / split / f"{start:07d}.json"


def speak(
    corpus: Path,
    config: CorpusConfig,
    language: str,
    split: str,
    start: int,
    pairs: Sequence[TextPair],
) -> None:
    """Write the audio of some pairs as FLAC, then their word marks."""
    import soundfile

    from raystt.speech.tts import EspeakSynthesizer, Voice

    named = SOURCE_VOICES[language], TARGET_VOICES[config.target]
    voices = [EspeakSynthesizer(Voice(*v, rate=WORDS_A_MINUTE), config.seed) for v in named]
    marks: dict[str, list[Marks]] = {pair.id: [] for pair in pairs}
    for side, voice in zip(SIDES, voices, strict=True):
        for pair in pairs:
            speech = voice.speak(getattr(pair, side))
            pcm = np.clip(speech.waveform * _FULL_SCALE, -32768, 32767).round().astype(np.int16)
            with replacing(_audio(corpus, pair.id, side)) as path:
                soundfile.write(path, pcm, SAMPLE_RATE, format="FLAC")
            marks[pair.id].append(tuple((int(word), float(at)) for word, at in speech.words))
    write_atomic(part_path(corpus, language, split, start), json.dumps(marks) + "\n")


def spoken(corpus: Path, language: str, split: str, pairs: Sequence[TextPair]) -> list[Utterance]:
    """Return what `speak` made of all pairs of a split."""
    marks: dict[str, list[list[tuple[int, float]]]] = {}
    for start in range(0, len(pairs), PAIRS):
        part = part_path(corpus, language, split, start)
        marks |= json.loads(part.read_text(encoding="utf-8"))
    return [
        Utterance(
            id=pair.id,
            language=language,
            split=split,
            **{
                side: Recording(
                    audio=str(_audio(corpus, pair.id, side)),
                    text=getattr(pair, side),
                    marks=tuple((word, at) for word, at in found),
                )
                for side, found in zip(SIDES, marks[pair.id], strict=True)
            },
        )
        for pair in pairs
    ]


def _audio(corpus: Path, name: str, side: str) -> Path:
    return corpus / WORK / "audio" / f"{name}.{side}.flac"
