"""Rates in the log are of the steps since the line before."""

import json
from types import SimpleNamespace

from raystt.training.batches import StepBatch
from raystt.training.jobs import Step
from raystt.training.log import TrainingLog

BATCH = StepBatch((), 10, 20, 3, 6, 4, 20)


def lines(path, steps, peak_rate, **before):
    """Log (step, tokens, seconds, operations so far), by a played engine."""
    log = TrainingLog(path, steps[0][0] - 1, **before)
    for step, tokens, seconds, operations in steps:
        engine = SimpleNamespace(
            learning_rate=1e-3, gradient_norm=0.5, peak_memory=2**30, peak_rate=peak_rate,
            operations=operations,
        )  # fmt: skip
        log.write(Step(step, 9, 0.5, 0.4, 2.0, tokens, seconds), BATCH, engine)
    log.close()
    return [json.loads(line) for line in (path / "train.jsonl").open()]


def test_rates_are_of_the_steps_since_the_last_line(tmp_path):
    first, second = lines(tmp_path, [(1, 100, 2.0, 4e9), (2, 400, 3.0, 9e9)], 1e10)
    assert (first["tokens_per_second"], second["tokens_per_second"]) == (50, 300)
    assert (first["mfu"], second["mfu"]) == (0.2, 0.5)
    assert first["peak_memory_gib"] == 1.0


def test_after_a_checkpoint_they_are_of_the_new_steps_alone(tmp_path):
    lines(tmp_path, [(1, 100, 2.0, 4e9)], 1e10)
    line = lines(tmp_path, [(2, 400, 3.0, 5e9)], 1e10, tokens=100, seconds=2.0)[-1]
    assert (line["tokens_per_second"], line["mfu"]) == (300, 0.5)


def test_without_a_known_gpu_there_is_no_utilisation(tmp_path):
    (line,) = lines(tmp_path, [(1, 100, 2.0, 4e9)], None)
    assert "mfu" not in line and line["gradient_norm"] == 0.5


def test_what_a_full_disk_tore_is_left_out(tmp_path):
    lines(tmp_path, [(1, 100, 2.0, 4e9), (2, 400, 3.0, 9e9)], None)
    path = tmp_path / "train.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:20]}\0\0\n[1]\n{second}\n{second[:9]}")
    kept = lines(tmp_path, [(3, 500, 4.0, 9e9)], None)
    assert [line["step"] for line in kept] == [1, 2, 3]
    again = lines(tmp_path, [(1, 100, 2.0, 4e9)], None)  # begun anew
    assert [line["step"] for line in again] == [1]
