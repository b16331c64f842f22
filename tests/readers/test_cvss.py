"""The reader `cvss`, on trees as the archives of CVSS, CoVoST 2 and Common Voice unpack."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from recordings import cvss_tree

from raystt.readers.cvss import CvssReader
from raystt.readers.tables import ReaderError
from raystt.readers.utterance import Recording, Utterance

SIZES = {"es": {"train": 6, "dev": 2, "test": 1}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cvss")
    cvss_tree(root, sizes=SIZES)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "corpora"))


def reader(root: Path, **sources: str) -> CvssReader:
    places = {
        "common_voice": f"{root}/cv-corpus-4-2019-12-10/{{language}}",
        "covost": f"{root}/covost",
        "cvss": f"{root}/cvss_c_{{language}}_{{target}}_v1.0",
    }
    return CvssReader(**places | sources, target="en")


def clips(root: Path, split: str = "train") -> list[str]:
    table = root / "cvss_c_es_en_v1.0" / f"{split}.tsv"
    return [line.split("\t")[0] for line in table.read_text().splitlines()]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_joins_the_three_corpora(made: Path) -> None:
    for split, count in SIZES["es"].items():
        utterances, quarantined = reader(made).read("es", split)
        # CoVoST 2 and Common Voice have a clip more in every split: it is passed over.
        assert len(utterances) == count and quarantined == []
        assert [f"{u.id}.mp3" for u in utterances] == clips(made, split)
    clip = clips(made)[0].removesuffix(".mp3")
    assert reader(made).read("es", "train")[0][0] == Utterance(
        id=clip,
        language="es",
        split="train",
        source=Recording(str(made / f"cv-corpus-4-2019-12-10/es/clips/{clip}.mp3"), "En casa."),
        target=Recording(str(made / f"cvss_c_es_en_v1.0/train/{clip}.mp3.wav"), "at home"),
    )


def test_the_tables_that_were_read_are_named(made: Path) -> None:
    ours = reader(made)
    ours.read("es", "dev")
    assert ours.tables == [
        f"{made}/cvss_c_es_en_v1.0/dev.tsv",
        f"{made}/covost/covost_v2.es_en.tsv",
        f"{made}/cv-corpus-4-2019-12-10/es/validated.tsv",
    ]
    assert ours.unplaced() == []


def test_the_files_of_one_split_say_the_same(made: Path, tmp_path: Path) -> None:
    sources = cvss_tree(tmp_path, sizes=SIZES, per_split=True)
    assert not list(tmp_path.rglob("validated.tsv"))
    for split in SIZES["es"]:
        ours, bad = CvssReader(**sources, target="en").read("es", split)
        theirs, _ = reader(made).read("es", split)
        assert not bad and [(u.id, u.source.text, u.target.text) for u in ours] == [
            (u.id, u.source.text, u.target.text) for u in theirs
        ]


def test_quotes_are_text_and_backslashes_are_not(root: Path) -> None:
    """Common Voice and CoVoST 2 are written without quoting, with a backslash as the escape."""
    validated = root / "cv-corpus-4-2019-12-10/es/validated.tsv"
    text = r"\"Ay\", dijo: \\o/" + "\\\t" + 'sin "cerrar'
    edit(validated, "\tEn casa.\t", f"\t{text}\t")
    utterances, bad = reader(root).read("es", "train")
    assert utterances[0].source.text == r'"Ay", dijo: \o/ sin "cerrar'
    assert len(utterances) == 6 and not bad


def test_bad_rows_are_set_aside_with_their_reason(root: Path) -> None:
    voice, cvss = root / "cv-corpus-4-2019-12-10/es", root / "cvss_c_es_en_v1.0"
    names = clips(root)
    (voice / "clips" / names[0]).unlink()
    (cvss / "train" / f"{names[1]}.wav").unlink()
    lines = (voice / "validated.tsv").read_bytes().split(b"\n")
    at = {name: i for i, line in enumerate(lines) for name in names if name.encode() in line}
    lines[at[names[2]]] = lines[at[names[2]]].replace(b".\t", b"\xe9.\t")  # Latin-1
    fields = lines[at[names[3]]].split(b"\t")
    lines[at[names[3]]] = b"\t".join([*fields[:2], b" ", *fields[3:]])
    del lines[at[names[4]]]
    (voice / "validated.tsv").write_bytes(b"\n".join(lines))
    with open(cvss / "train.tsv", "ab") as file:
        file.write(f"{names[5]}\tagain\n".encode())
        file.write(f"{clips(root, 'test')[0]}\tleaked\n".encode())
        file.write(b"common_voice_es_1.mp3\n")
        file.write(f"{names[5]}\t\xe9\n".encode("latin-1"))

    utterances, bad = reader(root).read("es", "train")
    assert [f"{u.id}.mp3" for u in utterances] == [names[5]]
    validated = voice / "validated.tsv"
    assert [q.reason for q in bad] == [
        f"no such source audio: {voice}/clips/{names[0]}",
        f"no such target audio: {cvss}/train/{names[1]}.wav",
        f"{validated}:{at[names[2]] + 1}: {bad[2].reason.split(': ')[-1]}",
        f"{validated}:{at[names[3]] + 1}: no sentence",
        f"not in {validated}",
        "the clip is that of line 6",
        "not in split train of CoVoST 2",
        "1 fields in place of 2",
        "not UTF-8 (byte 30 of the line)",
    ]
    assert ": not UTF-8 (byte " in bad[2].reason
    assert [q.place for q in bad] == [f"{cvss}/train.tsv:{i}" for i in (1, 2, 3, 4, 5, 7, 8, 9, 10)]
    assert [q.id for q in bad[:2]] == [name.removesuffix(".mp3") for name in names[:2]]


def test_only_train_takes_what_only_covost_has(root: Path) -> None:
    """CoVoST 2's script adds `train_covost` to train, and `dev_covost` to nothing."""
    table = root / "covost/covost_v2.es_en.tsv"
    assert "\ttrain_covost\n" in table.read_text()
    clip = clips(root, "dev")[0]
    lines = table.read_text().splitlines()
    lines = [f"{line}_covost" if line.startswith(f"{clip}\t") else line for line in lines]
    table.write_text("\n".join(lines))
    utterances, (bad,) = reader(root).read("es", "dev")
    assert len(utterances) == 1
    assert bad.reason == "not in split dev of CoVoST 2"


def test_languages_have_two_codes(root: Path) -> None:
    """CVSS says `zh`, Common Voice and CoVoST 2 say `zh-CN`; either may stand in the config."""
    (root / "cv-corpus-4-2019-12-10/es").rename(root / "cv-corpus-4-2019-12-10/zh-CN")
    (root / "covost/covost_v2.es_en.tsv").rename(root / "covost/covost_v2.zh-CN_en.tsv")
    (root / "cvss_c_es_en_v1.0").rename(root / "cvss_c_zh_en_v1.0")
    for code in ("zh", "zh-CN"):
        utterances, bad = reader(root).read(code, "train")
        assert len(utterances) == 6 and not bad
        assert {u.language for u in utterances} == {code}


def test_what_is_not_there_is_refused_by_name(root: Path) -> None:
    with pytest.raises(
        ReaderError, match=r"fr_en_v1\.0/train\.tsv: No such.*corpus\.sources\.cvss"
    ):
        reader(root).read("fr", "train")
    with pytest.raises(ReaderError, match=r"es_en\.tsv: No such.*corpus\.sources\.covost"):
        reader(root, covost=str(root)).read("es", "train")
    with pytest.raises(ReaderError, match=r"validated\.tsv: No such.*sources\.common_voice"):
        reader(root, common_voice=str(root)).read("es", "train")
    with pytest.raises(ReaderError, match="no split 'validation'"):
        reader(root).read("es", "validation")
    edit(root / "covost/covost_v2.es_en.tsv", "translation\tsplit\n", "translation\tpart\n")
    with pytest.raises(ReaderError, match="no column 'split'"):
        reader(root).read("es", "train")
    (root / "cvss_c_es_en_v1.0/dev.tsv").write_text("")
    with pytest.raises(ReaderError, match=r"dev\.tsv: the file is empty"):
        reader(root).read("es", "dev")
