"""Let a search run for hours and watch the memory of each of its processes.

    python benchmarks/soak.py [SPACE] [--hours 2] [--save]

The search of SPACE, such as search_spaces/embedded.yaml, as far as it comes in the time (started
again, it goes on); by default one on the embedded corpus with trials of seconds, so that there are
many. Its processes are looked at every 10 s. Printed and drawn is the memory of each kind, and its
slope over the second half, in MB an hour.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import psutil
import yaml
from record import ROOT, save

from raystt.config import load_search

PERIOD = 10.0
KINDS = {
    "ray::Broker": "broker",
    "ray::Dispatcher": "dispatcher",
    "ray::RayTrainWorker": "trainers",
    "ray::TrainController": "Train controllers",
    "ray::Evaluator": "evaluators",
    "ray::Trial": "actors of Tune",
    "raylet/raylet": "raylet",
    "gcs_server": "GCS",
}


def config(place: Path) -> dict[str, Any]:
    """Return the quickstart's search with less of everything and trials without end."""
    made: dict[str, Any] = yaml.safe_load(
        (ROOT / "search_spaces" / "quickstart.yaml").read_text(encoding="utf-8")
    )
    made |= {"name": "soak", "trials": 100_000, "languages": ["es"], "keep": "best"}
    base = made["base"]
    base["storage"] = str(place / "runs")
    base["corpus"] |= {"path": str(place / "corpus"), "text_pairs": 60}
    base["corpus"]["languages"] = {"es": {"train": 40, "dev": 6, "test": 6}}
    base["corpus"]["units"] |= {"source": 20, "target": 30}
    base["corpus"]["base"] |= {"layers": 2, "hidden": 64, "heads": 2, "steps": 40}
    base["training"] |= {"steps": 20, "batch_utterances": 8}
    base["evaluation"] |= {"max_new_tokens": 40}
    base["resources"] |= {"trainers": 1, "evaluators": 1}
    return made


def memory(driver: psutil.Process) -> dict[str, float]:
    """Return the MB that each kind of process holds, and those of Ray's object store."""
    found: dict[str, float] = defaultdict(float)
    for process in [driver, *driver.children(recursive=True)]:
        try:
            title = " ".join(process.cmdline())
            held = process.memory_info()
        except psutil.Error:
            continue
        kinds = (name for part, name in KINDS.items() if part in title)
        name = "driver" if process == driver else next(kinds, "other processes of Ray")
        # What is mapped from the object store is everybody's: counted once, at the raylet.
        found[name] += (held.rss - held.shared) / 1e6
        if name == "raylet":
            found["object store, as mapped by the raylet"] += held.shared / 1e6
    return found


def watch(process: subprocess.Popen[bytes], results: Path, hours: float) -> list[dict[str, float]]:
    """Look at the search's processes until it or the time is over; its results are counted."""
    driver = psutil.Process(process.pid)
    began, samples = time.monotonic(), []
    while (passed := time.monotonic() - began) < 3600 * hours:
        if process.poll() is not None:
            break
        done = results.read_bytes().count(b"\n") if results.exists() else 0
        samples.append({"hours": passed / 3600, "trials": done, **memory(driver)})
        if len(samples) % 60 == 1:
            print({name: round(value, 2) for name, value in samples[-1].items()}, flush=True)
        time.sleep(PERIOD)
    return samples


def slopes(samples: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return first, last and slope of each kind, over the second half of the time."""
    half = [s for s in samples if s["trials"] and s["hours"] > samples[-1]["hours"] / 2]
    hours = np.array([sample["hours"] for sample in half])
    rows = {}
    for name in sorted({name for sample in half for name in sample} - {"hours", "trials"}):
        values = np.array([sample.get(name, np.nan) for sample in half])
        known = ~np.isnan(values)
        slope = np.polyfit(hours[known], values[known], 1)[0] if known.sum() > 2 else np.nan
        rows[name] = {
            "median_mb": round(float(np.nanmedian(values)), 1),
            "mb_an_hour": round(float(slope), 2),
        }
    return rows


def draw(samples: list[dict[str, float]], path: Path) -> None:
    """Draw the memory of each kind over time."""
    rows = [
        {"hours": sample["hours"], "process": name, "MB": value}
        for sample in samples for name, value in sample.items() if name not in ("hours", "trials")
    ]  # fmt: skip
    title = f"Memory while a search gave {samples[-1]['trials']:.0f} scores"
    chart = alt.Chart(alt.Data(values=rows), title=title, width=640, height=360).mark_line()
    chart.encode(
        x=alt.X("hours:Q"), y=alt.Y("MB:Q", scale=alt.Scale(type="log")), color="process:N"
    ).save(str(path), scale_factor=2)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("space", type=Path, nargs="?", metavar="SPACE")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--save", action="store_true", help="write into benchmarks/results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raystt-soak-") as folder:
        place = Path(folder)
        space = options.space or place / "soak.yaml"
        if options.space is None:
            space.write_text(yaml.safe_dump(config(place), sort_keys=False), encoding="utf-8")
        search = load_search(space)
        results = Path(search.base.storage) / search.name / "results.jsonl"
        with (place / "log").open("wb") as log:
            command = [sys.executable, "-m", "raystt.cli", "search", str(space), "--resume"]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            samples = watch(process, results, options.hours)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            print((place / "log").read_text(encoding="utf-8", errors="replace")[-3000:])
    rows = slopes(samples)
    for name, row in rows.items():
        print(f"{name:>40}: {row['median_mb']:8.1f} MB, {row['mb_an_hour']:+.2f} MB an hour")
    print(f"{samples[-1]['trials']:.0f} results; it ended with {code}")
    if options.save:
        last = samples[-1]
        setting = {"hours": last["hours"], "results": last["trials"], "exit_code": code}
        kept = [
            {name: round(value, 2) for name, value in sample.items()} for sample in samples[::6]
        ]
        path = save("soak", "the second half of the time", setting, [rows, {"samples": kept}],
                    packages=["ray", "torch"])  # fmt: skip
        draw(samples, path.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
