"""Corpora on disk as users have them: encoded recordings of several kinds, and their tables.

The speech is eSpeak's, of sentences of the embedded grammar (es, fr, de to en). A dozen pairs take
about a second.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from raystt.readers import grammar
from raystt.speech import SAMPLE_RATE
from raystt.speech.tts import EspeakSynthesizer, Voice

Sizes = Mapping[str, Mapping[str, int]]

SIZES: Sizes = {"es": {"train": 12, "dev": 3, "test": 2}}
SHORTEST = {"es": "en casa", "fr": "à la maison", "de": "zu hause", "en": "at home"}
COLUMNS = (
    *("id", "language", "source_audio", "source_text"),
    *("target_audio", "target_text", "split"),
)
COMMON_VOICE = (
    *("client_id", "path", "sentence", "up_votes"),
    *("down_votes", "age", "gender", "accent"),
)

# Suffix, rate (Hz), channels: what people hand over, telephone speech among it.
KINDS = (
    ("mp3", 48000, 1),
    ("wav", 8000, 1),
    ("flac", 16000, 2),
    ("mp3", 22050, 2),
    ("wav", 44100, 2),
    ("flac", 24000, 1),
    ("mp3", 8000, 1),
    ("wav", 16000, 1),
)


@functools.cache
def _voice(language: str) -> EspeakSynthesizer:
    voice = Voice("en-us", "f2", rate=220) if language == "en" else Voice(language, rate=220)
    return EspeakSynthesizer(voice)


@functools.lru_cache(256)
def speak(text: str, language: str) -> np.ndarray:
    """Speak a text: float32 [samples] at 16 kHz, the same array for the same text."""
    waveform = _voice(language).speak(text).waveform
    waveform.flags.writeable = False
    return waveform


def encode(path: Path, waveform: np.ndarray, rate: int, channels: int = 1) -> Path:
    """Write 16 kHz speech as a file of another rate; its suffix is the format.

    The second channel is the first one, half as loud. A WAV of 8 kHz is coded as telephones do.
    """
    ratio = Fraction(rate, SAMPLE_RATE)
    if ratio != 1:
        waveform = resample_poly(waveform, ratio.numerator, ratio.denominator)
    if channels == 2:
        waveform = np.stack([waveform, waveform / 2], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    telephone = path.suffix == ".wav" and rate == 8000
    subtype = "ULAW" if telephone else None
    soundfile.write(path, waveform, rate, subtype, format=path.suffix[1:].upper())
    return path


def sentences(language: str, split: str, count: int, seed: int) -> list[tuple[str, str]]:
    """Return sentence pairs; of train the first lasts half a second, the second 20."""
    drawn = grammar.pairs(language, split, count, seed=seed)
    found = [(pair.source, pair.target) for pair in drawn]
    if split == "train" and count > 1:
        found[0] = (SHORTEST[language], SHORTEST["en"])
        long = grammar.pairs(language, split, 11, seed=seed + 1)
        found[1] = (" ".join(p.source for p in long), " ".join(p.target for p in long))
    return found


def manifest_tree(
    root: Path,
    *,
    sizes: Sizes = SIZES,
    seed: int = 0,
    suffix: str = ".tsv",
    transcribed: bool = True,
) -> Path:
    """Build a manifest corpus in `root`, of all `KINDS` of recordings.

    Args:
        root: directory of manifest and recordings.
        sizes: sentence pairs by language and split.
        seed: of the sentences.
        suffix: `.tsv` or `.jsonl`.
        transcribed: whether the source has text.

    Returns:
        The manifest, with paths relative to itself.
    """
    rows: list[dict[str, str]] = []
    for language, splits in sizes.items():
        for split, count in splits.items():
            for i, (source, target) in enumerate(sentences(language, split, count, seed)):
                ending, rate, channels = KINDS[i % len(KINDS)]
                name = f"audio/{language}/{split}-{i:04d}"
                encode(root / f"{name}.{ending}", speak(source, language), rate, channels)
                ending, rate, channels = KINDS[(i + 3) % len(KINDS)]
                encode(root / f"{name}.en.{ending}", speak(target, "en"), rate, channels)
                source_ending = KINDS[i % len(KINDS)][0]
                row = {
                    "id": f"{language}-{split}-{i:04d}",
                    "language": language,
                    "source_audio": f"{name}.{source_ending}",
                    "source_text": source if transcribed else "",
                    "target_audio": f"{name}.en.{ending}",
                    "target_text": target,
                    "split": split,
                }
                rows.append(row)
    path = root / f"manifest{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        write_tsv(path, [COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    return path


def cvss_tree(
    root: Path, *, sizes: Sizes = SIZES, seed: int = 0, per_split: bool = False
) -> dict[str, str]:
    """Build CVSS, CoVoST 2 and Common Voice in `root`, as their archives unpack.

    Common Voice and CoVoST 2 have one clip more than CVSS. Its sentences have upper case and a full
    stop; CVSS has neither.

    Args:
        root: directory of all three.
        sizes: sentence pairs by language and split.
        seed: of the sentences.
        per_split: whether CoVoST 2's script was run, and its input taken away.

    Returns:
        What goes into `corpus.sources`: `common_voice`, `covost` and `cvss`.
    """
    number = 17_299_384
    (root / "covost").mkdir(parents=True, exist_ok=True)
    for language, splits in sizes.items():
        voice = root / "cv-corpus-4-2019-12-10" / language
        cvss = root / f"cvss_c_{language}_en_v1.0"
        validated, covost = [list(COMMON_VOICE)], [["path", "translation", "split"]]
        (voice / "clips").mkdir(parents=True)
        for split, count in splits.items():
            (cvss / split).mkdir(parents=True)
            rows, made = [], [["path", "sentence", "translation", "client_id"]]
            for i, (source, target) in enumerate(sentences(language, split, count + 1, seed)):
                number += 1
                clip, client = f"common_voice_{language}_{number}.mp3", f"{number * 7919:032x}"
                sentence, translation = f"{source.capitalize()}.", f"{target.capitalize()}."
                validated.append([client, clip, sentence, "2", "0", "", "", ""])
                part = "train_covost" if (split, i % 3) == ("train", 2) else split
                covost.append([clip, translation, part])
                made.append([clip, sentence, translation, client])
                encode(voice / "clips" / clip, speak(source, language), 48000)
                if i < count:
                    rows.append([clip, target])
                    encode(cvss / split / f"{clip}.wav", speak(target, "en"), 24000)
            write_tsv(cvss / f"{split}.tsv", rows)
            if per_split:
                write_tsv(root / "covost" / f"covost_v2.{language}_en.{split}.tsv", made)
        if not per_split:
            write_tsv(voice / "validated.tsv", validated)
            write_tsv(root / "covost" / f"covost_v2.{language}_en.tsv", covost)
    return {
        "common_voice": str(root / "cv-corpus-4-2019-12-10" / "{language}"),
        "covost": str(root / "covost"),
        "cvss": str(root / "cvss_c_{language}_{target}_v1.0"),
    }


def write_tsv(path: Path, rows: list) -> None:
    """Write rows of texts without quoting."""
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
