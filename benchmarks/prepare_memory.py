"""Memory of a preparation: the Ray Data pipeline over 1 hour and over 10 hours of audio.

    python benchmarks/prepare_memory.py --save

Speaks a few hundred sentences, lists them as often as it takes in a manifest, and prepares it up to
the shards. The memory is that of this process and of all that it started (proportional set size,
so that shared pages and Ray's object store count once), sampled twice a second.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import psutil
import record
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from raystt.config import CorpusConfig, ResourcesConfig
from raystt.preparation.plan import Plan
from raystt.readers import grammar
from raystt.speech.audio import write_flac
from raystt.speech.tts import EspeakSynthesizer, Voice

SPOKEN = 300
RESOURCES = ResourcesConfig(cpus=2, encoders=1)


def speak(folder: Path) -> tuple[list[dict[str, str]], float]:
    """Speak sentences; return the rows of a manifest, and hours of both sides a row."""
    voices = {"source": EspeakSynthesizer(Voice("es")), "target": EspeakSynthesizer(Voice("en-us"))}
    rows, seconds = [], 0.0
    for number, pair in enumerate(grammar.pairs("es", "train", SPOKEN, seed=1)):
        row = {"language": "es", "split": "train"}
        for side, voice in voices.items():
            waveform = voice.speak(getattr(pair, side)).waveform
            seconds += len(waveform) / 16000
            write_flac(folder / f"{number}.{side}.flac", waveform)
            row[f"{side}_audio"] = f"{number}.{side}.flac"
            row[f"{side}_text"] = getattr(pair, side)
        rows.append(row)
    return rows, seconds / 3600 / len(rows)


def tokenizer(folder: Path) -> Path:
    """Write a tokenizer of the grammar's words."""
    words = sorted({*grammar.words("es"), *grammar.words("en")})
    made = Tokenizer(WordLevel({w: i for i, w in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = WhitespaceSplit()
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


class Peak(threading.Thread):
    """Sample the memory of this process and its descendants until `stop`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self.samples: list[float] = []

    def run(self) -> None:
        while not self._ended.wait(0.5):
            total = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.samples.append(total / 2**30)

    def stop(self) -> float:
        self._ended.set()
        self.join()
        return max(self.samples)


def measure(root: Path, rows: list[dict[str, str]], hours_a_row: float, hours: float) -> dict:
    """Prepare so many hours of audio up to the shards."""
    count = round(hours / hours_a_row)
    lines = [{**rows[i % len(rows)], "id": f"{i:08d}"} for i in range(count)]
    for split in ("dev", "test"):
        lines.append({**rows[0], "id": split, "split": split})
    manifest = root / f"{hours:g}.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = CorpusConfig.model_validate(
        {
            "reader": "manifest",
            "path": str(root / f"{hours:g}"),
            "sources": {"manifest": str(manifest)},
            "languages": {"es": {"train": None, "dev": None, "test": None}},
            "alignment": {"method": "equal"},
            "tokenizer": str(root / "tokenizer"),
        }
    )
    corpus = Path(config.path)
    corpus.mkdir()
    began, peak = time.perf_counter(), Peak()
    peak.start()
    Plan(corpus, config, RESOURCES, lambda *_: None, print).run("shards")
    return {
        "hours": hours,
        "pairs": count,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_gib": round(peak.stop(), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, nargs=2, default=[1.0, 10.0])
    parser.add_argument("--save", action="store_true", help="write the result to results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows, hours_a_row = speak(root)
        tokenizer(root / "tokenizer")
        measure(root, rows, hours_a_row, 0.05)  # what the first run of all alone pays
        results = [measure(root, rows, hours_a_row, hours) for hours in options.hours]
    ratio = round(results[1]["peak_gib"] / results[0]["peak_gib"], 3)
    for result in results:
        print(json.dumps(result))
    print(f"peak memory, {options.hours[1]:g} h over {options.hours[0]:g} h: {ratio}")
    if options.save:
        record.save(
            "prepare_memory",
            "peak memory of a preparation up to the shards, of the longer corpus over the shorter",
            {"encoder": "mfcc", "alignment": "equal", "encoders": RESOURCES.encoders, "cpus": 2},
            [*results, {"peak_ratio": ratio}],
            packages=("ray", "torch", "torchaudio", "soundfile", "pyarrow"),
        )


if __name__ == "__main__":
    main()
