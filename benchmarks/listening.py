"""Measure what preparation takes to make units and word marks of audio by one network.

    python benchmarks/listening.py [--device cuda] [--save]

A Wav2Vec2-BERT with random weights and a CTC head is unit encoder (layer 20 of 24) and aligner at
once, as in `search_spaces/cvss.yaml`, 256 wide on a CPU and as wide as the paper's, 1024, on a GPU.
The reference encodes by one network and aligns by another, cut as raystt cuts an encoder behind its
layer. On a GPU the nearest of 2048 centroids are found on it as well, and on the CPU for reference.
Rounds alternate; noise is what is heard, for the time does not depend on it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import save
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertForCTC

from raystt.speech import SAMPLE_RATE
from raystt.speech.ctc import CtcEncoder, _ctc_network, _log_probabilities
from raystt.speech.encoders import TransformersEncoder
from raystt.speech.units import Codebook

LAYER, LAYERS, CLUSTERS, LABELS = 20, 24, 2048, 60
ROUNDS = 3


def network(path: Path, width: int) -> None:
    """Save a network of random weights with its feature extractor."""
    torch.manual_seed(1)
    config = Wav2Vec2BertConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=LAYERS,
        num_attention_heads=width // 64, output_hidden_size=width, vocab_size=LABELS,
    )  # fmt: skip
    Wav2Vec2BertForCTC(config).save_pretrained(path)
    SeamlessM4TFeatureExtractor(padding_value=1).save_pretrained(path)


def timed(work: Callable[[], Any], device: str) -> float:
    """Return the seconds that work takes: CPU time on a CPU, which others do not add to."""
    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main() -> int:
    """Measure; print, and with --save write a result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    args = parser.parse_args()
    torch.set_num_threads(1)
    width, utterances = (1024, 256) if args.device == "cuda" else (256, 16)
    rng = np.random.default_rng(1)
    lengths = rng.integers(3 * SAMPLE_RATE, 8 * SAMPLE_RATE, utterances)
    waveforms = [rng.standard_normal(n).astype(np.float32) for n in lengths]
    with tempfile.TemporaryDirectory() as folder:
        network(Path(folder), width)
        encoder = TransformersEncoder(folder, LAYER, device=args.device)
        both = CtcEncoder(folder, LAYER, device=args.device)
        aligns = _ctc_network(folder, args.device)

    def two() -> None:
        encoder.features(waveforms)
        aligns.frames(waveforms, _log_probabilities)

    features, _ = both.hear(waveforms)
    ways: dict[str, Callable[[], Any]] = {
        "encoder, then aligner": two,
        "one pass": lambda: both.hear(waveforms),
    }
    if args.device == "cuda":
        ones = np.ones(width, np.float32)
        centroids = rng.standard_normal((CLUSTERS, width)).astype(np.float32)
        here, there = (Codebook(0 * ones, ones, centroids, "") for _ in range(2))
        there.to(args.device)
        ways["centroids on the CPU"] = lambda: [here.assign(one) for one in features]
        ways["centroids on the GPU"] = lambda: [there.assign(one) for one in features]
    two()  # the first pass of a network takes longer
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            took[name].append(timed(work, args.device))
    audio = float(sum(lengths)) / SAMPLE_RATE
    median = {name: statistics.median(seconds) for name, seconds in took.items()}
    results: list[dict[str, Any]] = []
    names = list(ways)
    for reference, mine in zip(names[::2], names[1::2], strict=True):
        ratio = median[reference] / median[mine]
        print(
            f"{reference}: {median[reference]:.2f} s, {mine}: {median[mine]:.2f} s for "
            f"{audio:.0f} s of audio, ratio {ratio:.2f}"
        )
        results.append({
            "reference": reference, "raystt": mine, "ratio": ratio,
            "seconds": {name: took[name] for name in (reference, mine)},
        })  # fmt: skip
    if args.save:
        setting = {"width": width, "layers": LAYERS, "layer": LAYER, "audio_s": audio}
        save(
            "listening", "an encoder and an aligner of their own", setting, results,
            packages=["torch", "transformers"], device=args.device,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
