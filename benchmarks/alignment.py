"""Measure forced alignment against the exact word marks of the synthesizer.

    python benchmarks/alignment.py [--save]

A Wav2Vec2-BERT CTC model of toy size (the architecture of the paper's encoder) is trained from
scratch on sentences of the embedded corpus, Spanish and English together, by one thread in about
four minutes. Then held-out sentences are aligned: with `ctc` on that model, and with `equal`, the
paper's control. A boundary is the start of a word that is not the first; words that the synthesizer
fuses have one mark, and those without are not compared. The reference are the marks of eSpeak NG.
No pretrained model takes part, and the voices are the two it was trained on: the numbers say what
the method does when its model knows the speech, not how good a model is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import save
from transformers import (
    AutoModelForCTC,
    AutoProcessor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
)

from raystt.config import CorpusConfig, FinetuneConfig, QualityConfig
from raystt.preparation.ctc import Recording, error_rate
from raystt.preparation.fit_encoder import FinetuneJob
from raystt.preparation.fit_encoder import train as fine_tune
from raystt.readers.embedded import (
    SOURCE_VOICES,
    TARGET_VOICES,
    WORDS_A_MINUTE,
    EmbeddedReader,
)
from raystt.speech import SAMPLE_RATE
from raystt.speech.audio import write_flac
from raystt.speech.ctc import aligner
from raystt.speech.tts import EspeakSynthesizer, Speech, Voice

SOURCE, TARGET = "es", "en"
TRAIN, TEST = 500, 100
SEED = 1
FRAME_SECONDS = 0.02
Spoken = list[tuple[str, Speech]]


def speak(reader: EmbeddedReader, split: str) -> dict[str, Spoken]:
    """Return (sentence, speech) of both languages."""
    named = {SOURCE: SOURCE_VOICES[SOURCE], TARGET: TARGET_VOICES[TARGET]}
    voices = {
        language: EspeakSynthesizer(Voice(*voice, rate=WORDS_A_MINUTE), SEED)
        for language, voice in named.items()
    }
    pairs = reader.pairs(SOURCE, split)
    texts = {SOURCE: [p.source for p in pairs], TARGET: [p.target for p in pairs]}
    return {
        language: [(text, voices[language].speak(text)) for text in texts[language]]
        for language in voices
    }


def small_encoder(folder: Path) -> str:
    """Write an untrained encoder of the paper's architecture, a frame each 20 ms."""
    torch.manual_seed(1)
    config = Wav2Vec2BertConfig(
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        output_hidden_size=128,
        conv_depthwise_kernel_size=15,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        conformer_conv_dropout=0.0,
    )
    Wav2Vec2BertModel(config).save_pretrained(folder)
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    return str(folder)


def written(spoken: Spoken, folder: Path) -> list[Recording]:
    """Write speech to files."""
    for place, (_, speech) in enumerate(spoken):
        write_flac(folder / f"{place}.flac", speech.waveform)
    return [
        Recording(str(folder / f"{place}.flac"), text, len(speech.waveform) / SAMPLE_RATE)
        for place, (text, speech) in enumerate(spoken)
    ]


def tell(step: int, steps: int, loss: float) -> None:
    """Print every fiftieth step."""
    if step % 50 == 0:
        print(f"step {step} of {steps}: {loss:.3f} nats/character", flush=True)


def boundary_errors(spoken: Spoken, marks: Sequence[Any]) -> tuple[np.ndarray, int]:
    """Return found minus exact starts, seconds, and the number of sentences not aligned."""
    errors, failed = [], 0
    for (_, speech), found in zip(spoken, marks, strict=True):
        if found is None:
            failed += 1
            continue
        starts = dict(found)
        errors += [starts[word] - at for word, at in speech.words if word > 0 and word in starts]
    return np.array(errors), failed


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    parser.add_argument("--steps", type=int, default=900, help="optimiser steps of the model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = CorpusConfig.model_validate(
        {"languages": {SOURCE: {"train": TRAIN, "dev": 1, "test": TEST}}, "target": TARGET}
    )
    reader = EmbeddedReader(corpus)
    training, test = speak(reader, "train"), speak(reader, "test")
    finetune = FinetuneConfig(
        steps=options.steps, batch_seconds=12.0, learning_rate=1e-3, warmup=0.1
    )
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "out"
        recordings = written([*training[SOURCE], *training[TARGET]], folder / "train")
        job = FinetuneJob(
            encoder=small_encoder(folder / "encoder"), config=finetune,
            utterances=tuple((r.path, r.text) for r in recordings), quality=QualityConfig(),
            seed=1, out=out, on_step=tell,
        )  # fmt: skip
        began = time.process_time()
        fine_tune(job, torch.device("cpu"))
        cpu_seconds = time.process_time() - began
        model, processor = AutoModelForCTC.from_pretrained(out), AutoProcessor.from_pretrained(out)
        results = []
        for language, spoken in test.items():
            cer = error_rate(model, processor, written(spoken, folder / language))
            print(f"{language}: character error rate {cer:.3f}")
            for method in ("ctc", "equal"):
                tool = aligner(method, out, language=language)
                marks = tool.words([s.waveform for _, s in spoken], [text for text, _ in spoken])
                errors, failed = boundary_errors(spoken, marks)
                size = np.abs(errors)
                seconds = {
                    "mean": size.mean(),
                    "median": np.median(size),
                    "p95": np.percentile(size, 95),
                    "bias": errors.mean(),
                }
                result: dict[str, Any] = {
                    "language": language,
                    "method": method,
                    "words": sum(len(text.split()) for text, _ in spoken),
                    "boundaries": len(errors),
                    "not_aligned": failed,
                    "frames": {k: round(v / FRAME_SECONDS, 2) for k, v in seconds.items()},
                    "milliseconds": {k: round(v * 1000, 1) for k, v in seconds.items()},
                    "character_error_rate": round(float(cer), 4) if method == "ctc" else None,
                }
                results.append(result)
                shown = ", ".join(f"{k} {v}" for k, v in result["frames"].items())
                print(f"{language} {method:>5}: {len(errors)} boundaries, frames: {shown}")
    if options.save:
        setting = {
            "train_sentences": {language: len(s) for language, s in training.items()},
            "test_sentences": {language: len(s) for language, s in test.items()},
            "frame_seconds": FRAME_SECONDS,
            "finetune": finetune.model_dump(),
            "parameters": model.num_parameters(),
            "training_cpu_seconds": round(cpu_seconds),
            "threads": 1,
        }
        reference = "word marks of eSpeak NG; `equal` = words of equal length"
        save(
            "alignment", reference, setting, results,
            packages=["torch", "torchaudio", "transformers", "espeakng-loader"],
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
