"""The tables of CVSS, CoVoST 2 and Common Voice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raystt.config.corpus import SPLITS
from raystt.readers.cvss import CvssReader
from raystt.readers.tables import ReaderError
from tests.fuzz.harness import damaged, fuzzed, outcome, relined
from tests.fuzz.tables import TOKENS, taken

_CLIPS = [f"common_voice_es_{number}.mp3" for number in range(4)]
_TABLES = {
    "cv/validated.tsv": "client_id\tpath\tsentence\tup_votes\n"
    + "".join(f"{7 * n:x}\t{clip}\tPalabras \\\\ {n}.\t2\n" for n, clip in enumerate(_CLIPS)),
    "covost/covost_v2.es_en.tsv": "path\ttranslation\tsplit\n"
    + "".join(f"{clip}\tWords.\t{split}\n" for clip in _CLIPS for split in SPLITS),
    "covost/covost_v2.es_en.dev.tsv": "path\tsentence\ttranslation\tclient_id\n"
    + "".join(f"{clip}\tPalabras.\tWords.\t{7 * n:x}\n" for n, clip in enumerate(_CLIPS)),
    **{f"cvss/{split}.tsv": "".join(f"{clip}\twords\n" for clip in _CLIPS) for split in SPLITS},
}
_WHOLES = {name: text.encode() for name, text in _TABLES.items()}


def changed(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    whole = [_WHOLES[name]]
    data = relined(whole, TOKENS) | damaged(whole, TOKENS) | st.binary(max_size=100)
    return data.map(lambda found: (name, found))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for clip in _CLIPS:
        for path in (f"cv/clips/{clip}", *(f"cvss/{split}/{clip}.wav" for split in SPLITS)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    (tmp_path / "covost").mkdir()
    return tmp_path


@fuzzed
@given(changes=st.lists(st.sampled_from(sorted(_WHOLES)).flatmap(changed), min_size=1, max_size=2))
@example(
    changes=[
        (name, _WHOLES[name].replace(_CLIPS[0].encode(), b"a\0/b.mp3"))
        for name in ("cvss/dev.tsv", "covost/covost_v2.es_en.dev.tsv")
    ]
)
def test_tables(root: Path, changes: list[tuple[str, bytes]]) -> None:
    for name, data in {**_WHOLES, **dict(changes)}.items():
        (root / name).write_bytes(data)
    reader = CvssReader(*(str(root / name) for name in ("cv", "covost", "cvss")), "en")
    paths = [root / name for name, _ in changes]
    outcome("CVSS TSVs", lambda: taken(reader, ("es",), root), ReaderError, paths)
