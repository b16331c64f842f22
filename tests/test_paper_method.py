"""The paper's method from end to end: CVSS on disk to a score, with tiny models of its classes.

One run of the kind that `search_spaces/paper.yaml` searches over. The models know nothing, so the
scores mean nothing; that every part takes what the part before gives is what is tested.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from pretrained import hifigan, llama, w2v_bert, whisper
from recordings import cvss_tree, sentences

from raystt.cli import main

SIZES = {"es": {"train": 12, "dev": 3, "test": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_local: str) -> Path:
    """Write recordings, models and the config of a run."""
    pytest.importorskip("espeakng_loader")
    root = tmp_path_factory.mktemp("paper")
    texts = [text for pair in sentences("es", "train", 12, 0) for text in pair]
    model = llama(root / "llama", texts)
    sources = cvss_tree(root / "data", sizes=SIZES)
    spoken = sorted((root / "data").glob("cvss_c_es_en*/train/*.wav"))
    spoken[0].write_bytes(b"no recording")  # which is told by whoever decodes it, and not before
    config = {
        "name": "tiny",
        "corpus": {
            "reader": "cvss",
            "path": str(root / "corpus"),
            "sources": sources,
            "languages": {"es": {"train": None, "dev": None, "test": None}},
            # One clip of Common Voice has no counterpart, half of the two of a split.
            "quality": {"max_quarantined": 0.9},
            "units": {
                "encoder": w2v_bert(root / "w2v-bert"), "layer": 1, "source": 32, "target": None,
                "deduplicate": False,
            },
            "finetune": {"steps": 3, "batch_seconds": 8.0, "learning_rate": 1.0e-3},
            "alignment": {"method": "ctc"},
            "tokenizer": model,
            "vocoder": {"kind": "conv", "model": hifigan(root / "hifigan"), "steps": 3},
        },
        "model": {"base": model, "gradient_checkpointing": True, "embedding_init": "kmeans"},
        "interleaving": {"format": "chain_of_thought", "modality_tokens": True},
        "training": {
            "steps": 4, "batch_utterances": 4, "learning_rate": 1.0e-3, "dropout": 0.2,
            "precision": "fp32", "log_every": 1,
        },
        "evaluation": {
            "asr": "whisper", "asr_model": str(whisper(root / "whisper")), "max_new_tokens": 24,
            "resamples": 100,
        },
        "resources": {"cpus": 2, "trainers": 1, "evaluators": 1},
        "storage": str(root / "runs"),
    }  # fmt: skip
    path = root / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.long
def test_from_cvss_on_disk_to_a_score(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = run.parent
    assert main(["check", str(run)]) == 0
    assert main(["prepare", str(run), "--fit-encoder"]) == 0
    fitted = json.loads((root / "corpus" / "encoder" / "finetune.json").read_text())
    assert fitted["steps"] == 3
    assert not (root / "corpus" / "units").exists()
    # Three steps teach nothing, and the user is told.
    assert "warning: encoder: character error rate" in capsys.readouterr().err

    # What only the prepared corpus shows is refused before a model is trained on it.
    config = run.read_text()
    run.write_text(config.replace("batch_utterances: 4", "batch_utterances: 12"))
    assert main(["check", str(run)]) == 0
    assert main(["train", str(run)]) == 2
    told = capsys.readouterr().err
    assert "training.batch_utterances: 12 utterances a step, but es has" in told, told
    assert not (root / "runs" / "tiny" / "states").exists()

    run.write_text(config)  # and nothing is in the way of the mended one
    assert main(["train", str(run), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    score = scores[0] if isinstance(scores, list) else scores
    assert 0 <= score["asr_bleu"] < 100
    for part in ("asr:", "whisper", "vocoder:conv", "norm"):
        assert part in score["signature"]
    assert {"chrf", "text_bleu", "source_text_bleu"} <= set(score["metrics"])

    card = json.loads((root / "corpus" / "card.json").read_text())
    assert card["units"]["frame_seconds"] == 0.02
    assert card["units"]["total"] == 32
    assert card["transcribed"]
    train = card["languages"]["es"]["train"]
    assert train["pairs"] + train["quarantined"] >= 12
    assert train["pairs"] >= 8, (root / "corpus" / "quarantine.jsonl").read_text()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(root / "runs" / "tiny" / "model")
    tokenizer = AutoTokenizer.from_pretrained(root / "runs" / "tiny" / "model")
    assert len(tokenizer) == 359 and model.config.vocab_size == 384  # filled up to 3 x 128 rows
    assert tokenizer.decode([len(tokenizer) - 1]) == "<unit_31>"
