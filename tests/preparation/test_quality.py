"""Which recordings are used, and what is said of those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from messages import tells

from raystt.config.corpus import QualityConfig
from raystt.preparation.quality import QualityError, Quarantine, judge_audio
from raystt.readers.utterance import NOWHERE, Quarantined
from raystt.speech import SAMPLE_RATE

LIMITS = QualityConfig()


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    return (level * samples).astype(np.float32)


@pytest.mark.parametrize(
    ("waveform", "text", "reason"),
    [
        (noise(0.5), "here", None),
        (noise(20.0), "a long sentence " * 20, None),
        (noise(0.5), None, None),
        (noise(0.0), "here", "lasts 0.00 s…min_seconds 0.2"),
        (noise(0.1), None, "lasts 0.10 s…min_seconds 0.2"),
        (noise(30.5), "here", "lasts 30.50 s…max_seconds 30"),
        (np.zeros(16000, np.float32), None, "silent…0.0001"),
        (np.full(16000, 0.3, np.float32), "here", "silent…0.0001"),
        (noise(1.0, 1e-3), "here", None),
        (noise(1.0), "x" * 50, None),
        (
            noise(1.0),
            "x" * 60,
            "60 characters a second…max_characters_per_second 50: cut short",
        ),
    ],
)
def test_recordings_are_judged(waveform: np.ndarray, text: str | None, reason: str | None) -> None:
    found = judge_audio(waveform, text, LIMITS)
    assert found is None if reason is None else found is not None and tells(found, reason)


def test_the_limits_are_the_configs() -> None:
    limits = QualityConfig(min_seconds=1, max_seconds=2, max_characters_per_second=10)
    assert "min_seconds 1" in (judge_audio(noise(0.9), None, limits) or "")
    assert "max_seconds 2" in (judge_audio(noise(2.1), None, limits) or "")
    assert "per_second 10" in (judge_audio(noise(1.5), "x" * 16, limits) or "")
    assert judge_audio(noise(1.5), "x" * 15, limits) is None


def bad(split: str, number: int, reason: str = "no target text") -> Quarantined:
    return Quarantined("fr", split, f"clip{number}", f"pairs.tsv:{number}", reason)


def test_too_many_bad_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    quarantine = Quarantine(path)
    for number in range(4):
        quarantine.add(bad("train", number))
    quarantine.add(bad("train", 0))  # again: a preparation that goes on where it stopped
    assert quarantine.count("fr", "train") == 4
    assert quarantine.count("fr", "dev") == 0
    quarantine.check("fr", "train", 100, LIMITS)
    quarantine.check("fr", "dev", 100, LIMITS)
    assert not path.exists()

    quarantine.add(bad("train", 4))
    quarantine.check("fr", "train", 101, LIMITS)
    with pytest.raises(QualityError) as error:
        quarantine.check("fr", "train", 100, LIMITS)
    for part in (
        "corpus.languages.fr.train: 5 of 100 rows (5.0%)",
        "limit is 5.0%",
        "5 x no target text (pairs.tsv:0)",
        str(path),
        "corpus.quality.max_quarantined",
    ):
        assert part in str(error.value)
    assert len(path.read_text().splitlines()) == 5  # the reasons are there to be read


@pytest.mark.parametrize(
    ("limit", "count", "total", "refused"),
    [
        (0.0, 0, 10, False),
        (0.0, 1, 1000, True),
        (1.0, 9, 10, False),
        (1.0, 10, 10, True),  # nothing is left
        (0.5, 4, 10, False),
        (0.5, 5, 10, True),
    ],
)
def test_the_limits_at_both_ends(
    tmp_path: Path, limit: float, count: int, total: int, refused: bool
) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    for number in range(count):
        quarantine.add(bad("train", number))
    config = QualityConfig(max_quarantined=limit)
    if refused:
        with pytest.raises(QualityError):
            quarantine.check("fr", "train", total, config)
    else:
        quarantine.check("fr", "train", total, config)


def test_the_most_frequent_reasons_come_first(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    for number in range(3):
        quarantine.add(bad("train", number, f"no such source audio: /data/{number}.wav"))
        quarantine.add(Quarantined(*NOWHERE, "", f"pairs.tsv:{number}", "no split"))
    for number in (3, 4):
        quarantine.add(bad("train", number, f"{number} fields in place of 7"))
    quarantine.add(bad("train", 5, "no id"))
    quarantine.add(bad("train", 6))
    with pytest.raises(QualityError) as error:
        quarantine.check("fr", "train", 10, LIMITS)
    first, second, third = str(error.value).split("most frequent: ")[1].split("; ")[:3]
    assert first == "3 x no such source audio: /data/0.wav (pairs.tsv:0)"
    assert second == "2 x 3 fields in place of 7 (pairs.tsv:3)"
    assert third.startswith("1 x no ")
    with pytest.raises(QualityError, match=r"corpus\.sources: 3 of 30 rows .*3 x no split"):
        quarantine.check(*NOWHERE, 30, LIMITS)


def test_there_is_no_file_without_a_row(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    quarantine.write()
    assert not quarantine.path.exists()
    quarantine.add(bad("train", 1))
    quarantine.write()
    assert quarantine.path.exists()
    Quarantine(quarantine.path).write()  # all rows were mended
    assert not quarantine.path.exists()


def test_the_file_does_not_depend_on_the_order_of_adding(tmp_path: Path) -> None:
    rows = [bad("train", 2), bad("dev", 1, 'é "quoted"'), bad("train", 1)]
    contents = []
    for order in (rows, rows[::-1]):
        quarantine = Quarantine(tmp_path / "quarantine.jsonl")
        for row in order:
            quarantine.add(row)
        quarantine.write()
        contents.append(quarantine.path.read_text(encoding="utf-8"))
    assert contents[0] == contents[1]
    first, *others = map(json.loads, contents[0].splitlines())
    assert first == {
        "language": "fr",
        "split": "dev",
        "id": "clip1",
        "place": "pairs.tsv:1",
        "reason": 'é "quoted"',
    }
    assert [row["id"] for row in others] == ["clip1", "clip2"]
    assert 'é \\"quoted\\"' in contents[0]
