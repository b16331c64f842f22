"""Find out what loses the words of recordings that are spoken again: the units, or the vocoder.

    python benchmarks/resynthesis.py FOLDER [--held-out 60] [--save]

FOLDER holds recordings of one language, English, and `text.tsv`: a file's name, a tab, and what is
said in it, a line each. Units and vocoder are fitted to all but the last lines, which are held out
and scored: as recorded; spoken by Griffin-Lim from their own log-mel; from the mean log-mel of each
unit's cluster, which is what units alone keep; and from the units by the vocoder `conv`, with their
own durations and with predicted ones. PocketSphinx hears them with a trigram of all the text, which
makes it easy: what is lost counts, the levels do not.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import save
from sklearn.cluster import KMeans

from raystt.preparation.fit_vocoder import Settings, train_vocoder
from raystt.recognition.sphinx import PocketSphinx
from raystt.scores import asr_bleu, bleu
from raystt.speech import MFCC, SAMPLE_RATE
from raystt.speech.audio import read_audio
from raystt.speech.encoders import MfccEncoder
from raystt.speech.units import Codebook, deduplicate
from raystt.vocoder.spectrum import Spectrum

STEPS = 1000
SEED = 1
# Encoder, clusters, channels of the vocoder; the first is what raystt has for synthesized speech.
SETTINGS = (
    ("mfcc", 200, 128),
    ("mfcc", 500, 128),
    ("mfcc_20ms", 200, 128),
    ("mfcc_20ms", 500, 128),
    ("mfcc_20ms", 500, 256),
)
Waves = Sequence[np.ndarray]


@dataclass(frozen=True)
class Heard:
    """A recogniser, and what it should hear of the sentences that are held out."""

    recogniser: PocketSphinx
    texts: Sequence[str]

    def score(self, waves: Waves, vocoder: str) -> dict[str, Any]:
        """Return ASR-BLEU with its interval and signature."""
        metric = bleu()
        said = self.recogniser.transcribe(waves)
        counts = metric.statistics(said, self.texts)
        signature = metric.sign(
            asr=self.recogniser.signature, vocoder=vocoder, normaliser=self.recogniser.normaliser
        )
        found = asr_bleu(counts, signature=signature)
        return {"asr_bleu": round(found.asr_bleu, 1), "ci": found.ci, "signature": found.signature}


def whole_frames(wave: np.ndarray, frame: int) -> int:
    """Return the samples of as many unit frames as the encoder makes of a waveform."""
    return max(1, round(len(wave) / frame)) * frame


def analysed(spectrum: Spectrum, wave: np.ndarray, frame: int) -> torch.Tensor:
    """Return log-mel, float32 `[unit frames, outputs]`."""
    return spectrum.log_mel(torch.from_numpy(wave), whole_frames(wave, frame))


def spoken(spectrum: Spectrum, mels: torch.Tensor, frame: int) -> np.ndarray:
    """Return the waveform of log-mel, float32 `[unit frames, outputs]`."""
    made = spectrum.waveform(mels.reshape(-1, spectrum.mels), len(mels) * frame)
    return np.asarray(made.numpy())


def measure(
    encoder: str, clusters: int, channels: int, known: Waves, held: Waves, heard: Heard
) -> dict[str, Any]:
    """Fit units and vocoder to `known`, and score `held` in each way of saying it again."""
    frames = MfccEncoder(encoder)
    step = round(frames.frame_seconds * SAMPLE_RATE)
    features = np.concatenate(frames.features(known))
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-5
    fitted = KMeans(clusters, n_init=1, max_iter=20, random_state=SEED).fit(
        (features - mean) / scale
    )
    codebook = Codebook(mean, scale, fitted.cluster_centers_.astype(np.float32), encoder)
    units = [codebook.assign(one) for one in frames.features(known)]
    wanted = [codebook.assign(one) for one in frames.features(held)]

    spectrum = Spectrum(step)
    totals, counts = torch.zeros(clusters, spectrum.outputs), torch.zeros(clusters)
    for wave, ids in zip(known, units, strict=True):
        index = torch.from_numpy(ids)
        totals.index_add_(0, index, analysed(spectrum, wave, step))
        counts.index_add_(0, index, torch.ones(len(ids)))
    means = totals / counts.clamp(min=1)[:, None]
    said = [spoken(spectrum, means[torch.from_numpy(ids)], step) for ids in wanted]
    row: dict[str, Any] = {
        "encoder": encoder, "clusters": clusters, "channels": channels,
        "cluster_means": heard.score(said, "cluster means"),
    }  # fmt: skip

    runs = [deduplicate(ids) for ids in units]
    asked = [deduplicate(ids) for ids in wanted]
    vocoder = train_vocoder(
        [(ids, lasts, wave) for (ids, lasts), wave in zip(runs, known, strict=True)],
        Settings(clusters, frames.frame_seconds, SEED, STEPS, hidden=channels),
    )
    chosen, lasts = [one for one, _ in asked], [one for _, one in asked]
    seconds = sum(map(len, held)) / SAMPLE_RATE
    return row | {
        "units_a_second": round(sum(map(len, chosen)) / seconds, 1),
        "own_durations": heard.score(vocoder.synthesize(chosen, lasts), vocoder.signature),
        "predicted_durations": heard.score(vocoder.synthesize(chosen), vocoder.signature),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--held-out", type=int, default=60)
    parser.add_argument("--save", action="store_true", help="write into benchmarks/results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = (options.folder / "text.tsv").read_text(encoding="utf-8").splitlines()
    names, texts = zip(*(line.split("\t") for line in lines), strict=True)
    waves = [read_audio(options.folder / name) for name in names]
    plain = [re.sub(r"[^a-z' ]", "", text.lower()) for text in texts]
    known, held = waves[: -options.held_out], waves[-options.held_out :]
    with tempfile.TemporaryDirectory() as folder:
        heard = Heard(PocketSphinx.build(plain, folder), plain[-options.held_out :])
        spectrum, step = Spectrum(960), round(MFCC["mfcc"] * SAMPLE_RATE)
        mel = [spoken(spectrum, analysed(spectrum, wave, step), step) for wave in held]
        ceilings = {
            "audio": heard.score(held, "none"),
            "log_mel": heard.score(mel, "Griffin-Lim"),
        }
        print({name: found["asr_bleu"] for name, found in ceilings.items()}, flush=True)
        rows = []
        for encoder, clusters, channels in SETTINGS:
            rows.append(measure(encoder, clusters, channels, known, held, heard))
            told = {
                name: value["asr_bleu"] if isinstance(value, dict) else value
                for name, value in rows[-1].items()
            }
            print(told, flush=True)
    if options.save:
        setting = {
            "recordings": len(known), "held_out": len(held), "steps": STEPS, "seed": SEED,
            "minutes": round(sum(map(len, waves)) / SAMPLE_RATE / 60, 1), "ceilings": ceilings,
        }  # fmt: skip
        packages = ["torch", "torchaudio", "scikit-learn", "pocketsphinx", "sacrebleu"]
        save("resynthesis", "the recordings themselves", setting, rows, packages=packages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
