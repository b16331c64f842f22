"""Which recordings a preparation takes, and how it cuts them into parts."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from raystt.checking.corpus import load
from raystt.config import CorpusConfig, ResourcesConfig
from raystt.errors import PrepareError
from raystt.files import content_hash
from raystt.interleaving.rules import Interleaving
from raystt.preparation import pipeline
from raystt.preparation.files import same_tables
from raystt.preparation.plan import Plan
from raystt.preparation.prepare import prepare
from raystt.preparation.quality import QualityError
from raystt.preparation.sources import Recordings
from raystt.readers.recordings import subset
from raystt.readers.utterance import NOWHERE, audio_path
from tests.corpus.test_card import make_card


def recordings(tmp_path, rows, **sizes):
    (tmp_path / "a.wav").touch()
    lines = [
        {
            "id": f"{split}-{i}", "language": "es", "split": split, "source_audio": "a.wav",
            "target_audio": audio, "target_text": "one", "source_text": text,
        }
        for split, i, text, audio in rows
    ]  # fmt: skip
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Recordings(tmp_path, config(tmp_path, **sizes))


def config(tmp_path, **sizes):
    return CorpusConfig.model_validate(
        {
            "reader": "manifest",
            "path": str(tmp_path / "corpus"),
            "sources": {"manifest": str(tmp_path / "m.jsonl")},
            "languages": {"es": {"train": None, "dev": None, "test": None, **sizes}},
            "alignment": {"method": "equal"},
            "tokenizer": "somewhere",
        }
    )


def planned(tmp_path):
    path = tmp_path / "corpus"
    return Plan(path, config(tmp_path), ResourcesConfig(), lambda *step: None, print)


OTHERS = [("dev", 0, "uno", "a.wav"), ("test", 0, "uno", "a.wav")]


def test_a_few_rows_without_text_are_set_aside(tmp_path):
    rows = [("train", i, "uno" if i else "", "a.wav") for i in range(5)]
    source = recordings(tmp_path, rows + OTHERS)
    kept = source._found["es", "train"]
    assert [utterance.id for utterance in kept] == [f"train-{i}" for i in range(1, 5)]
    (refused,) = source.refused("es", "train")
    assert (refused.id, refused.reason) == ("train-0", "no source text, as others have")


def test_rows_that_all_lack_text_stay(tmp_path):
    source = recordings(tmp_path, [("train", i, "", "a.wav") for i in range(3)] + OTHERS)
    assert len(source._found["es", "train"]) == 3
    assert not source.refused("es", "train")


def test_of_a_share_of_the_rows_the_same_share_is_refused(tmp_path):
    rows = [("train", i, "uno", "gone.wav" if i < 4 else "a.wav") for i in range(12)]
    assert len(recordings(tmp_path, rows + OTHERS).refused("es", "train")) == 4
    assert len(recordings(tmp_path, rows + OTHERS, train=2).refused("es", "train")) == 1


def test_a_split_of_bad_rows_alone_is_no_empty_split(tmp_path):
    rows = [("train", i, "uno", "gone.wav") for i in range(3)]
    assert len(recordings(tmp_path, rows + OTHERS, train=2).refused("es", "train")) == 3


def test_rows_that_tell_no_split_are_nobody_elses(tmp_path):
    rows = [("train", i, "uno", "a.wav") for i in range(8)] + [
        ("", i, "uno", "a.wav") for i in (8, 9)
    ]
    source = recordings(tmp_path, rows + OTHERS)
    assert not source.refused("es", "train")
    assert [one.id for one in source.refused(*NOWHERE)] == ["-8", "-9"]
    source = recordings(tmp_path, rows + OTHERS, train=2)
    assert len(source.refused(*NOWHERE)) == 1, "of a share of the rows"
    plan = planned(tmp_path)
    plan.utterances = plan.source.utterances(None)
    with pytest.raises(QualityError, match="corpus.sources: 2 of 12 rows .* 2 x no split"):
        plan._check_shares()


def test_the_tables_are_known_by_content(tmp_path):
    source = recordings(tmp_path, OTHERS + [("train", 0, "uno", "a.wav")])
    manifest = tmp_path / "m.jsonl"
    assert source.tables == {str(manifest): content_hash(manifest)}
    same_tables(tmp_path, source.tables)
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(PrepareError) as caught:
        same_tables(tmp_path, source.tables)
    for part in (str(manifest), "changed since", "`corpus.path`", f"delete {tmp_path}"):
        assert part in str(caught.value)
    manifest.unlink()
    same_tables(tmp_path, source.tables)  # a prepared corpus needs them no more


def test_rows_may_be_mended_until_a_model_was_fitted_to_them(tmp_path):
    recordings(tmp_path, OTHERS + [("train", i, "uno", "a.wav") for i in range(5)])
    assert len(planned(tmp_path).source.refused("es", "train")) == 0
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(manifest.read_text().replace('"train-4"', '"train-five"'))
    plan = planned(tmp_path)
    assert "train-five" in [u.id for u in plan.source.utterances(None)["es", "train"]]
    (tmp_path / "corpus" / "units").mkdir()
    planned(tmp_path)
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(PrepareError, match=r"m\.jsonl: changed since .*corpus was prepared"):
        planned(tmp_path)


def test_an_edited_manifest_of_a_prepared_corpus_is_told(tmp_path):
    source = recordings(tmp_path, OTHERS + [("train", 0, "uno", "a.wav")])
    asked = config(tmp_path)
    card = replace(make_card(), config=asked.content(), tables=source.tables)
    card.save(asked.path)
    (tmp_path / "m.jsonl").write_text("")
    with pytest.raises(PrepareError, match=r"m\.jsonl: changed since"):
        prepare(asked, resources=ResourcesConfig(), progress=lambda *step: None)
    _, wrong = load(asked, "run `raystt prepare`")
    assert "m.jsonl changed since" in " ".join(one.reason for one in wrong)


def test_missing_source_text_is_told_when_the_rows_are_read(tmp_path):
    recordings(
        tmp_path,
        [(split, i, "", audio) for split, i, _, audio in OTHERS + [("train", 0, "", "a.wav")]],
    )
    told = []
    with pytest.raises(PrepareError, match="interleaving.side: both needs source text"):
        prepare(
            config(tmp_path), resources=ResourcesConfig(),
            progress=lambda *step: told.append(step), interleaving=Interleaving(),
        )  # fmt: skip
    assert not told, "nothing was made"


def test_a_subset_depends_on_ids_alone(tmp_path):
    rows = [("train", i, "uno", "a.wav") for i in range(20)]
    every = recordings(tmp_path, rows + OTHERS)._found["es", "train"]
    drawn = {utterance.id for utterance in subset(every, 5)}
    assert len(drawn) == 5
    assert {u.id for u in subset(every[::-1], 5)} == drawn
    assert [u.id for u in subset(every, 5)] == [u.id for u in every if u.id in drawn]
    assert drawn != {f"train-{i}" for i in range(5)}, "the first ones are all of a kind"


def test_an_edited_row_changes_the_name_of_its_part(tmp_path):
    every = recordings(tmp_path, [("train", i, "uno", "a.wav") for i in range(70)] + OTHERS)
    found = every._found["es", "train"]
    before = [piece.path for piece in pipeline.cut(tmp_path, found)]
    found[-1] = replace(found[-1], target=replace(found[-1].target, text="two"))
    after = [piece.path for piece in pipeline.cut(tmp_path, found)]
    assert len(before) == 2
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_replaced_recording_changes_the_name_of_its_part(tmp_path):
    every = recordings(tmp_path, [("train", i, "uno", "a.wav") for i in range(3)] + OTHERS)
    found = every._found["es", "train"]
    (before,) = pipeline.cut(tmp_path, found)
    (again,) = pipeline.cut(tmp_path, found)
    assert again == before
    file = (tmp_path / "a.wav").stat()
    os.utime(tmp_path / "a.wav", ns=(file.st_atime_ns, file.st_mtime_ns + 1))
    (after,) = pipeline.cut(tmp_path, found)
    assert after.path != before.path
    (tmp_path / "b").mkdir()
    (tmp_path / "a.wav").rename(tmp_path / "b" / "a.wav")
    elsewhere = [
        replace(u, source=replace(u.source, audio=str(tmp_path / "b" / "a.wav"))) for u in found
    ]
    (moved,) = pipeline.cut(tmp_path, elsewhere)
    assert moved.path != after.path, "of the same base name"


def test_any_id_names_a_file(tmp_path):
    for name in ("a/b", "..", "é" * 90, "字" * 90):
        path = audio_path(tmp_path, "es", "dev", name, "target")
        assert path.parent == tmp_path / "audio" / "es" / "dev"
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{path}.123456.tmp").touch()
    long = [audio_path(tmp_path, "es", "dev", "字" * n, "target") for n in (90, 91)]
    assert long[0] != long[1]
