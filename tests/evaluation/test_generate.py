"""Generation: what a model wrote is cut into its parts, whatever it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TEXT, tiny_corpus, tiny_run
from transformers import PreTrainedModel

from raystt.corpus.card import Card
from raystt.corpus.shards import read_rows
from raystt.evaluation.generate import Generated, generate, parts
from raystt.evaluation.jobs import EvaluationJob
from raystt.interleaving.rules import Interleaving
from raystt.training.model import ModelError, load_model

PAD, EOS, SEP, SPEECH, SWITCH = 0, 2, 3, 6, 7  # of the tiny corpus
UNIT = TEXT + 12

DIRECT = Interleaving(format="direct")
COT = Interleaving(format="chain_of_thought")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    tiny_corpus(tmp_path)
    return tmp_path


def told(generated: Generated) -> tuple[list[int] | None, ...]:
    both = (generated.source_text, generated.target_text, generated.spoken)
    return tuple(None if part is None else part.tolist() for part in both)


@pytest.mark.parametrize(
    ("interleaving", "written", "expected"),
    [
        (DIRECT, [UNIT, 9, UNIT, EOS, UNIT], (None, None, [UNIT, 9, UNIT])),
        (DIRECT, [], (None, None, [])),
        (DIRECT, [UNIT, SPEECH, EOS], (None, None, [UNIT, SPEECH])),
        (Interleaving(modality_tokens=True), [SPEECH, UNIT, EOS], (None, None, [UNIT])),
        (COT, [8, 9, SEP, 10, SEP, UNIT, EOS, PAD], ([8, 9], [10], [UNIT])),
        (COT, [8, SEP, SEP, UNIT, SEP, UNIT], ([8], [], [UNIT, SEP, UNIT])),
        (COT, [8, 9, SEP, 10], ([8, 9], [10], [])),
        (COT, [8, 9, EOS, SEP, 10, SEP, UNIT], ([8, 9], [], [])),
        (COT, [SEP], ([], [], [])),
        (COT, [], ([], [], [])),
        (
            Interleaving(format="chain_of_thought", modality_tokens=True),
            [SWITCH, 8, SEP, SWITCH, 10, SEP, SPEECH, UNIT, EOS],
            ([8], [10], [UNIT]),
        ),
    ],
)
def test_what_was_written_is_cut_into_its_parts(corpus: Path, interleaving, written, expected):
    tokens = np.array(written, dtype=np.int64)
    assert told(parts(tokens, Card.load(corpus), interleaving)) == expected


@pytest.mark.parametrize("interleaving", [DIRECT, COT])
def test_a_batch_gives_what_each_row_gives_alone(corpus: Path, interleaving: Interleaving) -> None:
    card = Card.load(corpus)
    rows = read_rows(corpus, card, "es", "dev", None)
    config = tiny_run(corpus).evaluation.model_copy(update={"batch": 3, "max_new_tokens": 12})
    job = EvaluationJob(str(corpus / "base"), "es", "dev", config, interleaving)
    together = [told(each) for each in generate(rows, job, card, device="cpu")]
    alone = [told(generate(rows.slice(i, 1), job, card, device="cpu")[0]) for i in range(len(rows))]
    assert len(together) == len(rows) == 4 and together == alone
    assert any(spoken or source for source, _, spoken in together)


def test_rows_of_no_token_are_not_generated(corpus: Path) -> None:
    card = Card.load(corpus)
    model = load_model(corpus / "base")
    model.resize_token_embeddings(card.vocabulary + 2, mean_resizing=False)
    with torch.no_grad():  # whatever the model says, one of the two is likelier than any token
        last = model.get_input_embeddings().weight[card.vocabulary :]
        last.copy_(100.0 * torch.randn(1, last.shape[1]) * torch.tensor([[1.0], [-1.0]]))
    model.save_pretrained(corpus / "filled")
    rows = read_rows(corpus, card, "es", "dev", None)
    config = tiny_run(corpus).evaluation.model_copy(update={"max_new_tokens": 8})
    job = EvaluationJob(str(corpus / "filled"), "es", "dev", config, DIRECT)
    spoken = np.concatenate([each.spoken for each in generate(rows, job, card, device="cpu")])
    assert len(spoken) and spoken.max() < card.vocabulary


def test_a_context_bounds_what_is_written(corpus: Path) -> None:
    card = Card.load(corpus)
    rows = read_rows(corpus, card, "es", "dev", 1)
    config = tiny_run(corpus).evaluation
    model = load_model(corpus / "base")
    for room, fits in ((40, True), (3, False)):
        model.config.max_position_embeddings = room
        model.save_pretrained(corpus / f"short-{room}")
        job = EvaluationJob(str(corpus / f"short-{room}"), "es", "dev", config, DIRECT)
        if fits:
            assert len(generate(rows, job, card, device="cpu")[0].spoken) < room
        else:
            with pytest.raises(ModelError, match="its context is 3"):
                generate(rows, job, card, device="cpu")


@pytest.mark.parametrize(
    ("device", "computed"),
    [("cpu", torch.float32), pytest.param("cuda", torch.bfloat16, marks=pytest.mark.gpu)],
)
def test_a_gpu_generates_in_the_precision_that_was_saved(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, device: str, computed: torch.dtype
) -> None:
    load_model(corpus / "base").to(torch.bfloat16).save_pretrained(corpus / "half")
    loaded = []

    def load(*args: Any, **kwargs: Any) -> PreTrainedModel:
        loaded.append(load_model(*args, **kwargs))
        return loaded[0]

    monkeypatch.setattr("raystt.evaluation.generate.load_model", load)
    card = Card.load(corpus)
    rows = read_rows(corpus, card, "es", "dev", None)
    config = tiny_run(corpus).evaluation.model_copy(update={"max_new_tokens": 8})
    job = EvaluationJob(str(corpus / "half"), "es", "dev", config, DIRECT)
    assert len(generate(rows, job, card, device=device)) == len(rows)
    assert {weight.dtype for weight in loaded[0].parameters()} == {computed}


def test_weights_are_loaded_as_they_were_saved_where_asked(corpus: Path) -> None:
    load_model(corpus / "base").to(torch.bfloat16).save_pretrained(corpus / "half")
    assert load_model(corpus / "half", dtype="auto").dtype == torch.bfloat16
    assert load_model(corpus / "half").dtype == torch.float32
