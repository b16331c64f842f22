"""Which recordings a preparation takes, and how it cuts them into parts."""

import json
import os
from dataclasses import replace
from pathlib import Path

from raystt.config import CorpusConfig
from raystt.preparation import pipeline
from raystt.preparation.sources import Recordings
from raystt.readers.recordings import subset
from raystt.readers.utterance import audio_path


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
    config = CorpusConfig.model_validate(
        {
            "reader": "manifest",
            "sources": {"manifest": str(manifest)},
            "languages": {"es": {"train": None, "dev": None, "test": None, **sizes}},
            "alignment": {"method": "equal"},
            "tokenizer": "somewhere",
        }
    )
    return Recordings(tmp_path, config)


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
