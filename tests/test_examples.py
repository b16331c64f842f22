"""The programs in examples/ are short, run, and show what they say."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
def test_the_collator_runs() -> None:
    """As a program: the text falls from most of the words to none of them."""
    path = {"PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        [sys.executable, EXAMPLES / "collator.py"],
        capture_output=True, text=True, env=os.environ | path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shares = [float(share) for share in re.findall(r"text ([\d.]+)", done.stdout)]
    assert len(shares) == 8
    assert shares[0] > 0.7 and shares[-1] == 0.0


def test_a_collated_batch_is_padded_and_knows_its_step() -> None:
    example = runpy.run_path(str(EXAMPLES / "collator.py"))
    data, collate = example["Pairs"](), example["collate"]
    places = [[(step, row) for row in range(4)] for step in range(8)]
    batches = list(DataLoader(data, batch_sampler=places, collate_fn=collate))
    for batch in batches:
        tokens, labels = batch["input_ids"], batch["labels"]
        assert tokens.shape == labels.shape and tokens.dtype == labels.dtype == torch.int64
        assert torch.all(labels[tokens == 0] == -100)
        learned = labels != -100
        assert torch.equal(labels[learned], tokens[learned])
        assert torch.all((tokens == 3).sum(1) == 1)  # </s> ends each row
    assert [row[row > 6].min().item() >= 1000 for row in batches[-1]["input_ids"]] == [True] * 4
    alone = collate([data[place] for place in places[3]])
    assert torch.equal(alone["input_ids"], batches[3]["input_ids"])


def test_the_searcher_serves_a_tuner_of_ones_own(
    ray_local: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLES / "tune.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert len(re.findall(r"\b(?:es|fr) +\d+ +(?:linear|cosine|staircase)", out)) == 8
    assert re.search(r"es: best #\d, [\d.]+, of 4", out)
    assert re.search(r"fr: best #\d, [\d.]+, of 4", out)
