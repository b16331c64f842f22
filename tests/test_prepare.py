import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import Card
from raystt.corpus.rows import side
from raystt.corpus.rules import validate
from raystt.corpus.shards import read_rows
from raystt.preparation.files import claim, config_hash, locked, same_config
from raystt.preparation.prepare import PrepareError, fit, prepare
from raystt.readers.embedded import EmbeddedReader
from raystt.vocoder.conv import ConvVocoder

ROOT = Path(__file__).resolve().parents[1]
RESOURCES = ResourcesConfig(cpus=2)


def tiny(path: Path, **changes) -> CorpusConfig:
    """Two languages of a dozen pairs, and models that are trained for a moment."""
    sizes = {"train": 12, "dev": 3, "test": 2}
    config = {
        "path": str(path),
        "languages": {"es": sizes, "fr": sizes},
        "text_pairs": 20,
        "units": {"source": 12, "target": 16},
        "base": {"layers": 1, "hidden": 16, "heads": 2, "steps": 2, "batch": 4},
        "shard_rows": 8,
        "vocoder": {"steps": 20},
    }
    return CorpusConfig.model_validate({**config, **changes})


def quiet(stage: str, done: int, total: int) -> None:
    pass


def test_a_directory_belongs_to_one_config(tmp_path):
    asked = tiny(tmp_path).content()
    other = tiny(tmp_path, text_pairs=30).content()
    claim(tmp_path, asked)
    (tmp_path / "shards").mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    theirs = f".part.{os.getppid()}.tmp"  # somebody writes there still
    for left in (f".part.{ended.pid}.tmp", f".part.{os.getpid()}.tmp", ".notes.tmp", theirs):
        (tmp_path / "shards" / left).touch()
    claim(tmp_path, asked)
    assert [left.name for left in (tmp_path / "shards").iterdir()] == [theirs]
    with pytest.raises(PrepareError) as caught:
        claim(tmp_path, other)
    for words in (
        str(tmp_path), config_hash(asked), config_hash(other),
        "corpus.text_pairs: 20 there, 30 asked", "`corpus.path`", "delete the directory",
    ):  # fmt: skip
        assert words in str(caught.value)


def test_the_order_of_languages_is_no_difference(tmp_path):
    config = tiny(tmp_path).content()
    turned = {**config, "languages": dict(reversed(config["languages"].items()))}
    same_config(tmp_path, config, turned)


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(PrepareError, match="not empty, and not a corpus .* `corpus.path`"):
        prepare(tiny(tmp_path), resources=RESOURCES, progress=quiet)
    assert (tmp_path / "thesis.tex").exists()


def test_one_process_prepares_at_a_time(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(PrepareError, match="another process is preparing this corpus"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_languages_that_the_reader_lacks_are_refused(tmp_path):
    sizes = {"train": 1}
    with pytest.raises(PrepareError, match="corpus.languages.it: .* use es, fr, de"):
        EmbeddedReader(tiny(tmp_path, languages={"it": sizes}))
    with pytest.raises(PrepareError, match="corpus.target: .* no target 'es'; use en"):
        EmbeddedReader(tiny(tmp_path, target="es"))
    with pytest.raises(PrepareError, match="corpus.languages.es: text: 9000000 sentences"):
        EmbeddedReader(tiny(tmp_path, text_pairs=9_000_000)).pairs("es", "text")


def test_only_what_is_there_to_be_fitted_is(tmp_path):
    for stage, changes, key in (
        ("encoder", {}, "corpus.finetune"),
        ("units", {"units": {"codebook": "kmeans.npy"}}, "corpus.units.codebook"),
        ("vocoder", {"vocoder": {"kind": "seamless", "model": "m"}}, "corpus.vocoder.kind"),
    ):
        with pytest.raises(PrepareError, match=key):
            fit(stage, tiny(tmp_path, **changes), resources=RESOURCES, progress=quiet)
    assert not list(tmp_path.iterdir())


def contents(path: Path) -> dict[str, bytes]:
    """All that one config fixes to the byte: shards, codebooks, tokenizer, audio."""
    files = [
        p for part in ("shards", "units", "tokenizer", "audio") for p in (path / part).rglob("*")
    ]
    return {str(p.relative_to(path)): p.read_bytes() for p in files if p.is_file()}


def test_a_corpus_is_prepared_whole(prepared):
    search, card, told = prepared
    path = Path(search.base.corpus.path)
    assert Card.load(path) == card
    assert not card.missing(path)
    assert not (path / "work").exists()
    assert ConvVocoder.load(path / "vocoder").shape.hidden == 96
    assert not [p for p in path.rglob(".*") if p.name != ".lock"]
    assert sorted(card.languages) == ["es", "fr"]
    for language in card.languages:
        for split, pairs in {"train": 40, "dev": 6, "test": 6, "text": 60}.items():
            table = read_rows(path, card, language, split)
            validate(table, "joined")
            counted = card.languages[language][split]
            assert len(table) == counted.pairs == pairs
            assert [shard.rows for shard in counted.shards][:1] == [min(16, pairs)]
            for which, low, high in (("source", 0, 20), ("target", 20, 50)):
                units = side(table, which, 0).units
                assert len(units) == getattr(counted, which).units
                assert (len(units) == 0) == (split == "text")
                assert ((units >= low) & (units < high)).all()
            if split in ("dev", "test"):
                for name in table["id"].to_pylist():
                    assert (path / f"audio/{language}/{split}/{name}.target.flac").exists()
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages[:6] == ["text", "speech", "units", "k-means", "shards", "merge"]
    assert set(stages[6:]) == {"vocoder", "asr", "base"}
    assert told[: len(stages)] == [(stage, 0, 0) for stage in stages], "announced before the first"
    for stage in stages:
        _, done, total = [step for step in told if step[0] == stage][-1]
        assert done == total > 0


def test_a_prepared_corpus_is_returned_at_once(prepared):
    search, card, _ = prepared
    config = search.base.corpus
    told: list[tuple[str, int, int]] = []
    again = prepare(
        config, resources=RESOURCES, progress=lambda *step: told.append(step),
        interleaving=search.interleaving,
    )  # fmt: skip
    assert again == card and not told
    with pytest.raises(PrepareError, match="corpus.seed: 1 there, 2 asked"):
        prepare(config.model_copy(update={"seed": 2}), resources=RESOURCES, progress=quiet)


PROGRAM = """
import sys
from raystt.config import CorpusConfig, ResourcesConfig
from raystt.preparation.prepare import prepare
config = CorpusConfig.model_validate_json(sys.argv[1])
prepare(config, resources=ResourcesConfig(cpus=2),
        progress=lambda *step: print(*step, flush=True))
"""


def run_prepare(config: CorpusConfig, errors: IO[str] | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, config.model_dump_json()], stdout=subprocess.PIPE,
        stderr=errors, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.long
def test_a_killed_preparation_goes_on_to_the_same_bytes(prepared, tmp_path):
    search, card, _ = prepared
    reference = search.base.corpus
    path = Path(reference.path).with_name("killed")
    config = reference.model_copy(update={"path": str(path)})
    process = run_prepare(config)
    assert process.stdout is not None
    for line in process.stdout:
        stage, done, total = line.split()
        if stage == "speech" and 0 < int(done) < int(total):
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    assert not (path / "card.json").exists()
    kept = {p: p.stat().st_mtime_ns for p in path.rglob("*.flac") if not p.name.startswith(".")}
    assert kept

    with (tmp_path / "errors.txt").open("w+") as errors:
        again = run_prepare(config, errors)
        assert again.stdout is not None
        first = None
        for line in again.stdout:
            stage, done, total = line.split()
            if stage == "speech" and int(total) and first is None:
                first = int(done)
                assert {p: p.stat().st_mtime_ns for p in kept} == kept
        assert again.wait() == 0
        errors.seek(0)
        # Ray's core and Ray Data talk as a pipeline starts; none of it is for the user.
        assert errors.read() == ""
    assert first is not None
    assert first > 0, "what had been spoken was spoken again"
    assert contents(path) == contents(Path(reference.path))
    assert Card.load(path).fingerprint == card.fingerprint
    assert json.loads((path / "config.json").read_text()) == card.config
