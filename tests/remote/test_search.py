"""A search whose corpus and runs lie in a store: killed, and gone on with on another machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from remote.conftest import machine
from searches import Search, small_search
from transformers import AutoModelForCausalLM

import raystt
from raystt import remote
from raystt.corpus.card import FILE_NAME

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(900)]


def test_a_search_goes_on_on_another_machine(
    bucket: str, tmp_path: Path, small_corpus: Path
) -> None:
    corpus = f"{bucket}/data/embedded"
    remote.publish(small_corpus / "embedded", remote.local(corpus), FILE_NAME)
    space, config = tmp_path / "small.yaml", small_search(tmp_path, tmp_path)
    config |= {"trials": None, "space": {}, "references": ["none", "paper"]}
    config["base"]["storage"] = f"{bucket}/runs"
    config["base"]["corpus"]["path"] = corpus
    space.write_text(yaml.safe_dump(config, sort_keys=False))
    url = f"{bucket}/runs/small"

    first = Search(space)
    try:
        first.wait_until(lambda: "results.jsonl" in (remote.names(first.directory) or ()))
        first.kill()
    finally:
        first.end()
    known = remote.read(first.directory / "results.jsonl")
    assert known

    machine(tmp_path, "there")
    refused = Search(space, "--resume")
    assert "a search is running in this directory" in refused.wait(2)
    remote.delete(refused.directory / ".beat")  # as if a minute had passed
    second = Search(space, "--resume")
    try:
        printed = second.wait()
    finally:
        second.end()
    assert (second.directory / "results.jsonl").read_bytes().startswith(known)

    machine(tmp_path, "desk")
    run = raystt.open_run(url)
    assert Counter(run.trials.trial) == {0: 1, 1: 1}, printed
    assert (run.path / "report" / "table.md").exists() and not run.running
    assert AutoModelForCausalLM.from_pretrained(run.best["es"].model).num_parameters() > 10_000
    assert (raystt.export(url, tmp_path / "exported") / "model.safetensors").exists()
    assert remote.names(run.path / "ray") == set(), "Ray Train's own files went"
