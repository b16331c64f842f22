"""The reader `manifest`: what it takes, what it sets aside, what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from recordings import COLUMNS, manifest_tree, write_tsv

from raystt.readers.manifest import ManifestReader
from raystt.readers.tables import ReaderError
from raystt.readers.utterance import Quarantined, Recording, Utterance


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the recordings a.wav to f.wav, which no test here decodes."""
    for name in "abcdef":
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF")
    return tmp_path


def row(**changes: str) -> dict[str, str]:
    """A good row, with changes."""
    values = ("1", "es", "a.wav", "hola", "b.wav", "hello", "train")
    return dict(zip(COLUMNS, values, strict=True)) | changes


def manifest(root: Path, *rows: dict[str, str]) -> ManifestReader:
    """Write rows as a TSV and read Spanish and French of it."""
    path = root / "pairs.tsv"
    write_tsv(path, [COLUMNS, *([r[name] for name in COLUMNS] for r in rows)])
    return ManifestReader(str(path), ["es", "fr"], "en")


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_reads_a_tree_of_recordings(tmp_path: Path, suffix: str) -> None:
    sizes = {"es": {"train": 3, "dev": 1}, "fr": {"train": 2}}
    path = manifest_tree(tmp_path, sizes=sizes, suffix=suffix)
    reader = ManifestReader(str(path), ["es"], "en")
    utterances, quarantined = reader.read("es", "train")
    assert quarantined == []
    assert [u.id for u in utterances] == [f"es-train-{i:04d}" for i in range(3)]
    assert utterances[0] == Utterance(
        id="es-train-0000",
        language="es",
        split="train",
        source=Recording(str(tmp_path / "audio/es/train-0000.mp3"), "en casa"),
        target=Recording(str(tmp_path / "audio/es/train-0000.en.mp3"), "at home"),
    )
    assert all(Path(u.source.audio).is_file() for u in utterances)
    assert len(reader.read("es", "dev")[0]) == 1
    with pytest.raises(ReaderError, match="no rows of language 'fr'"):  # was not asked for
        reader.read("fr", "train")


def test_an_untranscribed_source(root: Path) -> None:
    path = root / "pairs.tsv"
    names = [name for name in COLUMNS if name != "source_text"]
    write_tsv(path, [names, [row()[name] for name in names]])
    assert ManifestReader(str(path), ["es"], "en").read("es", "train")[0][0].source.text is None

    assert manifest(root, row(source_text=" ")).read("es", "train")[0][0].source.text is None

    path = root / "pairs.jsonl"
    objects = [row() | {"source_text": None}, {n: v for n, v in row(id="2").items() if n in names}]
    path.write_text("".join(json.dumps(o) + "\n" for o in objects))
    utterances, bad = ManifestReader(str(path), ["es"], "en").read("es", "train")
    assert [u.source.text for u in utterances] == [None, None] and not bad


def test_texts_stay_as_they_are_except_white_space(root: Path) -> None:
    """Quotes and backslashes are text; a TSV of Windows has a byte order mark and CRLF."""
    path = root / "pairs.tsv"
    good = row(source_text=' "¿Qué?"  dijo\u00a0él\\n ', target_text='"What?" he said.')
    lines = ["\t".join(COLUMNS), "\t".join(good[name] for name in COLUMNS), ""]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    (utterance,), bad = ManifestReader(str(path), ["es"], "en").read("es", "train")
    assert utterance.source.text == '"¿Qué?" dijo él\\n'
    assert utterance.target.text == '"What?" he said.'
    assert not bad


def test_bad_rows_are_set_aside_with_their_reason(root: Path) -> None:
    reader = manifest(
        root,
        row(),
        row(id="2", target_text=" "),
        row(id="", target_text="x"),
        row(),
        row(id="3", source_audio="gone.wav"),
        row(id="4", target_audio=""),
        row(id="5", language="fr"),
        row(id="6", language=""),
        row(id="7"),
    )
    utterances, bad = reader.read("es", "train")
    table = f"{root}/pairs.tsv"
    assert [u.id for u in utterances] == ["1", "7"]
    assert [(q.place, q.id, q.reason) for q in bad] == [
        (f"{table}:3", "2", "no target text"),
        (f"{table}:4", "", "no id"),
        (f"{table}:5", "1", f"the id is that of {table}:2"),
        (f"{table}:6", "3", f"no such source audio: {root}/gone.wav"),
        (f"{table}:7", "4", "no target audio"),
    ]
    assert {(q.language, q.split) for q in bad} == {("es", "train")}
    assert len(reader.read("fr", "train")[0]) == 1 and not reader.read("fr", "train")[1]
    # A row without a language counts with no other.
    assert reader.unplaced() == [Quarantined("", "", "6", f"{table}:9", "no language")]


def test_a_row_that_tells_no_split_is_of_its_language_alone(root: Path) -> None:
    reader = manifest(
        root, row(), row(id="2", split=""), row(id="3", language="de", split=""), row(id="4")
    )
    utterances, bad = reader.read("es", "train")
    assert [u.id for u in utterances] == ["1", "4"] and not bad
    (lost,) = reader.unplaced()  # that of German was not asked for
    assert lost == Quarantined("", "", "2", f"{root}/pairs.tsv:3", "no split")


def test_reasons_are_given_where_every_row_is_bad(root: Path) -> None:
    rows = [row(id=str(n), split="") for n in range(5)] + [row(language=""), row(language="")]
    with pytest.raises(ReaderError) as error:
        manifest(root, *rows).read("es", "train")
    table = f"{root}/pairs.tsv"
    for part in ("the rows are: none", f"5 x no split ({table}:2)", f"2 x no language ({table}:7)"):
        assert part in str(error.value)


def test_what_is_no_regular_file_is_no_audio(root: Path) -> None:
    """To open a named pipe is to wait for ever."""
    os.mkfifo(root / "pipe.wav")
    (root / "zero.wav").symlink_to("/dev/zero")
    (root / "folder.wav").mkdir()
    (root / "loop.wav").symlink_to(root / "loop.wav")
    (root / "link.wav").symlink_to(root / "a.wav")
    names = ("pipe.wav", "zero.wav", "folder.wav", "loop.wav", "link.wav")
    reader = manifest(root, *(row(id=name, source_audio=name) for name in names))
    utterances, bad = reader.read("es", "train")
    assert [u.id for u in utterances] == ["link.wav"]
    assert [q.reason for q in bad] == [
        f"the source audio is no regular file: {root}/{name}" for name in names[:4]
    ]
    os.mkfifo(root / "pairs.jsonl")
    with pytest.raises(ReaderError, match=r"pairs\.jsonl: not a regular file"):
        ManifestReader(str(root / "pairs.jsonl"), ["es"], "en").read("es", "train")


def test_of_rows_with_one_id_the_first_usable_is_kept(root: Path) -> None:
    reader = manifest(
        root, row(target_text=""), row(target_text="kept"), row(language="fr"), row(split="dev")
    )
    assert [u.target.text for u in reader.read("es", "train")[0]] == ["kept"]
    for language, split in (("fr", "train"), ("es", "dev")):  # across languages and splits
        utterances, (bad,) = reader.read(language, split)
        assert not utterances and bad.reason == f"the id is that of {root}/pairs.tsv:3"


def test_lines_that_are_no_rows(root: Path) -> None:
    """Every one costs itself and nothing else; none is lost, even before the first good row."""
    path = root / "pairs.tsv"
    good = "\t".join(row().values())
    lines = [
        "\t".join(COLUMNS).encode(),
        b"too\tfew",
        good.encode(),
        "\t".join(row(id="2", target_text="caf\xe9", split="dev").values()).encode("latin-1"),
        f"{good}\tand more".encode(),
        b"",
        "\t".join(row(id="3").values()).encode(),
    ]
    path.write_bytes(b"\n".join(lines))
    reader = ManifestReader(str(path), ["es"], "en")
    utterances, bad = reader.read("es", "train")
    assert [u.id for u in utterances] == ["1", "3"]
    assert [(q.place, q.reason) for q in bad] == [(f"{path}:5", "8 fields in place of 7")]
    assert reader.unplaced() == [Quarantined("", "", "too", f"{path}:2", "2 fields in place of 7")]
    utterances, bad = reader.read("es", "dev")  # a broken text does not hide the split
    assert not utterances
    (broken,) = bad
    assert broken == Quarantined("es", "dev", "2", f"{path}:4", broken.reason)
    assert broken.reason.startswith("not UTF-8 (byte ")


def test_lines_that_are_no_objects(root: Path) -> None:
    path = root / "pairs.jsonl"
    odd = [
        json.dumps(row()),
        "{",
        "[1]",
        json.dumps(row(id="2") | {"target_text": 7}),
        json.dumps({k: v for k, v in row(id="3").items() if k != "target_audio"}),
        json.dumps(row(id="4", target_text="half \ud83d")),
        "[" * 100_000,
        json.dumps(row(id="5", target_text="whole \U0001f600")),
    ]
    path.write_text("\n".join(odd))
    reader = ManifestReader(str(path), ["es"], "en")
    utterances, bad = reader.read("es", "train")
    assert [u.id for u in utterances] == ["1", "5"]
    assert [q.reason for q in bad] == [
        "target_text is 7, not a text",
        "no target audio",
        "target_text has half a character (an unpaired surrogate)",
    ]
    assert [(q.place, q.reason) for q in reader.unplaced()] == [
        (f"{path}:2", "not JSON"), (f"{path}:3", "not a JSON object"), (f"{path}:7", "not JSON"),
    ]  # fmt: skip


def test_a_manifest_a_language(root: Path) -> None:
    for language in ("es", "fr"):
        write_tsv(
            root / f"{language}-en.tsv", [COLUMNS, row(language=language, id=language).values()]
        )
    reader = ManifestReader(str(root / "{language}-{target}.tsv"), ["es", "fr"], "en")
    assert [u.id for u in reader.read("fr", "train")[0]] == ["fr"]
    assert [u.id for u in reader.read("es", "train")[0]] == ["es"]


def test_the_paths_do_not_depend_on_the_working_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(root, row(target_audio=str(root / "c.wav")))
    monkeypatch.chdir(root.parent)
    reader = ManifestReader(f"{root.name}/pairs.tsv", ["es"], "en")
    (utterance,), _ = reader.read("es", "train")
    assert utterance.source.audio == str(root / "a.wav")
    assert utterance.target.audio == str(root / "c.wav")


def test_a_manifest_that_cannot_be_used_is_refused(root: Path) -> None:
    with pytest.raises(ReaderError, match=r"pairs\.tsv:3: split 'validation' is unknown.*dev"):
        manifest(root, row(), row(id="2", split="validation")).read("es", "train")
    reader = manifest(root, row(), row(id="2", language="de", split="dev"))
    with pytest.raises(ReaderError, match=r"'es', split 'dev'; the rows are: de dev \(1\), es tr"):
        reader.read("es", "dev")

    def refused(name: str, content: str | None) -> str:
        if content is not None:
            (root / name).write_text(content)
        with pytest.raises(ReaderError) as error:
            ManifestReader(str(root / name), ["es"], "en").read("es", "train")
        return str(error.value)

    assert "no column 'split' (columns in line 1: id, language" in refused(
        "few.tsv", "\t".join(COLUMNS[:-1]) + "\n"
    )
    assert "no column 'id' (columns in line 1: none)" in refused("empty.tsv", "")
    lacking = json.dumps({k: v for k, v in row().items() if k != "language"})
    assert "no row has 'language'; give its columns" in refused("few.jsonl", lacking)
    assert "the rows are: none" in refused("empty.jsonl", "\n")
    assert "a .tsv or a .jsonl file" in refused("pairs.csv", "")
    assert "No such file or directory; give its columns" in refused("gone.tsv", None)
