"""A golden run over the tiny corpus: what a change of structure must not change.

`python tests/test_golden.py` records it anew, for a change that means to alter it: say in the
commit which part moved and why. Bytes, tokens and scores are the same everywhere. Losses are the
same to the bit on the processor and the torch that recorded them, elsewhere to rounding.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECORD = Path(__file__).parent / "golden" / "run.json"
HEARD = ["the red house is small", "two dogs sleep", "", "a green tree stands by the river"]
MEANT = ["the red house is big", "two dogs sleep here", "a cat", "a green tree stands at the river"]


def digest(*parts: Any) -> str:
    """Hash arrays and bytes, the arrays with their type and shape."""
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            whole.update(f"{part.dtype}{part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes()
        whole.update(part)
    return whole.hexdigest()[:16]


def processor() -> str:
    """Name what decides the last bit of a loss."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    kind = sorted({line for line in lines if line.startswith(("model", "flags", "cpu family"))})
    return f"{platform.machine()} {digest(*map(str.encode, kind))} torch {torch.__version__}"


def corpus_bytes(path: Path) -> dict[str, str]:
    files = [path / "card.json", *sorted(path.rglob("*.parquet"))]
    return {str(file.relative_to(path)): digest(file.read_bytes()) for file in files}


def tokens(path: Path) -> dict[str, str]:
    """Hash the packed batches of every rule, format and control at several ratios and ranks."""
    from raystt.corpus.card import Card
    from raystt.corpus.reading import local_batches, split_shards
    from raystt.interleaving.rules import Interleaving
    from raystt.training.batches import assemble

    card = Card.load(path)
    (table,) = local_batches(
        split_shards(path, card, "es", "train"), seed=1, start_step=2, stop_step=3, batch=8
    )
    found = {}
    for changes in (
        {}, {"rule": "independent"}, {"side": "target"}, {"side": "source", "span_mean": 1.0},
        {"format": "chain_of_thought", "modality_tokens": True}, {"replacement": "mask"},
        {"alignment": "equal"},
    ):  # fmt: skip
        arrays = []
        for ratio in (0.0, 0.3, 0.9, 1.0):
            for rank in (0, 1):
                batch = assemble(
                    table, ratio, card=card, interleaving=Interleaving(**changes), seed=3,
                    rank=rank, world_size=2, max_tokens=60,
                )  # fmt: skip
                for part in batch.micro_batches:
                    arrays += [part.tokens, part.positions, part.borders, part.predicting]
                    arrays += [part.targets]
                counts = [batch.loss_tokens, batch.tokens, batch.words_text, batch.words_total]
                arrays.append(np.array([*counts, batch.tokens_text, batch.tokens_total]))
        name = ",".join(f"{key}={value}" for key, value in changes.items()) or "paper"
        found[name] = digest(*(np.asarray(array) for array in arrays))
    return found


def ratios() -> dict[str, str]:
    """Hash the ratios of every named shape."""
    from raystt import schedule

    found = {}
    for name in schedule.SHAPES:
        shape = schedule.from_dict({"shape": name, "initial": 0.85})
        found[name] = digest(shape.values(0, 350, 350))
    return found


def losses(path: Path, storage: Path) -> tuple[list[float], str]:
    """Train the tiny run in two segments, with dropout; return the losses and what it generates."""
    from tiny import tiny_run

    from raystt.corpus.card import Card
    from raystt.corpus.shards import read_rows
    from raystt.evaluation.generate import generate
    from raystt.evaluation.jobs import EvaluationJob
    from raystt.interleaving.rules import Interleaving
    from raystt.training.jobs import SegmentJob
    from raystt.training.segment import train_segment

    run = tiny_run(path)
    seen: list[float] = []
    parent = None
    for start, stop in ((0, 3), (3, 6)):
        job = SegmentJob(run, str(path), start, stop, parent, str(storage))
        result = train_segment(job, on_step=lambda step: seen.append(step.loss))
        parent = result.state
    evaluation = EvaluationJob(
        str(result.model), "es", "dev",
        run.evaluation.model_copy(update={"max_new_tokens": 12}), Interleaving(),
    )  # fmt: skip
    card = Card.load(path)
    rows = read_rows(path, card, "es", "dev", None)
    written = [
        one.spoken.astype(np.int64) for one in generate(rows, evaluation, card, device="cpu")
    ]
    return seen, digest(*written)


def scores() -> dict[str, Any]:
    """Score four sentences, bootstrap and pair included."""
    from raystt.scores import asr_bleu, bleu, chrf

    one, two = bleu().statistics(HEARD, MEANT), bleu().statistics(MEANT, MEANT)
    found = asr_bleu(one, signature="s", resamples=200)
    difference, interval, p = bleu().compare(two, one, resamples=200)
    return {
        "statistics": digest(one),
        "bleu": [found.asr_bleu, *found.ci],
        "paired": [difference, *interval, p],
        "chrf": chrf().point(chrf().statistics(HEARD, MEANT)),
        "signatures": [
            bleu().sign(asr="a", vocoder="v", normaliser="n"),
            bleu(lowercase=False).signature,
            chrf().signature,
        ],
    }


def measure(directory: Path) -> dict[str, Any]:
    """Do the golden run."""
    from tiny import tiny_corpus

    path = directory / "corpus"
    tiny_corpus(path)
    seen, written = losses(path, directory / "states")
    return {
        "corpus": corpus_bytes(path),
        "tokens": tokens(path),
        "ratios": ratios(),
        "scores": scores(),
        "processors": [processor()],
        "losses": [loss.hex() for loss in seen],
        "generated": written,
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads(json.dumps(measure(tmp_path_factory.mktemp("golden"))))


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(RECORD.read_text())


@pytest.mark.parametrize("part", ["corpus", "tokens", "ratios"])
def test_bytes_are_the_same(part: str, measured: dict[str, Any], golden: dict[str, Any]) -> None:
    assert measured[part] == golden[part]


def test_scores_are_the_same(measured: dict[str, Any], golden: dict[str, Any]) -> None:
    found, kept = measured["scores"], golden["scores"]
    assert found["signatures"] == kept["signatures"]
    assert found["statistics"] == kept["statistics"]
    for name in ("bleu", "paired", "chrf"):
        assert found[name] == pytest.approx(kept[name], rel=1e-12), name


def test_losses_are_the_same(measured: dict[str, Any], golden: dict[str, Any]) -> None:
    found = [float.fromhex(loss) for loss in measured["losses"]]
    kept = [float.fromhex(loss) for loss in golden["losses"]]
    assert found == pytest.approx(kept, rel=1e-4)


def test_losses_and_tokens_are_the_same_to_the_bit(
    measured: dict[str, Any], golden: dict[str, Any]
) -> None:
    """On processors that are known to give these bits; others may round otherwise."""
    if measured["processors"][0] not in golden["processors"]:
        pytest.skip(f"bits of another processor than {measured['processors'][0]}")
    assert measured["losses"] == golden["losses"]
    assert measured["generated"] == golden["generated"]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as folder:
        RECORD.write_text(json.dumps(measure(Path(folder)), indent=1) + "\n")
