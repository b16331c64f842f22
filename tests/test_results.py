"""Results on disk: nothing finished is lost, nothing torn is read; the summary and its table."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import LINEAR, SIGNATURE, diverged, result
from rich.console import Console

from raystt.evaluation.jobs import Ceiling
from raystt.lines import append, read, read_failures
from raystt.ranking import best, dataframe, latest, pareto
from raystt.report.markdown import markdown
from raystt.report.terminal import terminal
from raystt.results import UNKNOWN, Failure, Proposal, Result, ResultsError
from raystt.schedule import Constant
from raystt.scores import Score
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import Difference, Fresh
from raystt.searching.neighbours import Certificate, Neighbour
from raystt.searching.summarise import summarise
from raystt.searching.verdict import Answer


def search() -> list[Result]:
    constant = Constant(initial=0.3)
    return [
        result(0, 16.0, reference="none", schedule=Constant(initial=0.0)),
        result(1, 38.0, reference="paper"),
        result(2, 14.5, reference="constant", schedule=constant),
        result(3, 44.6),
        diverged(4),
        result(3, 41.0, split="test", sentences=100),
        result(1, 36.0, split="test", sentences=100),
        result(0, 20.0, language="fr", reference="none"),
    ]


def test_lines_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    written = [
        *search(), result(9, 30.0, chrf=51.5, signatures={"chrf": "nc:6"}, states=("a", "b"))
    ]  # fmt: skip
    for one in written:
        append(path, one)
    assert read(path) == written
    assert len(path.read_text().splitlines()) == len(written)


def test_failures_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    identity = {"language": "es", "trial": 3, "reference": None, "seed": 1, "overrides": {}}
    failure = Failure(**identity, error="disk full\nTraceback", time=12.5)
    append(path, failure)
    assert read_failures(path) == [failure]


def test_tune_hands_a_result_back_as_it_was() -> None:
    one = result(3, 44.6, chrf=51.5, signatures={"chrf": "nc:6"}, states=("a", "b"))
    config = one.config()
    assert config == {
        "language": "es", "trial": 3, "reference": None, "seed": 1, "origin": "",
        "schedule.end": 0.8,
    }  # fmt: skip
    report = one.report()
    assert not [key for key, value in report.items() if isinstance(value, dict | list | tuple)]
    assert report["signatures/chrf"] == "nc:6" and report["signatures/utmos"] is None
    assert UNKNOWN.keys() < report.keys()
    assert Result.from_report(Proposal.from_config(config), one.schedule, report) == one


def test_one_row_a_trial_with_its_difference_to_the_paper() -> None:
    table = dataframe(search(), split="dev", objective="asr_bleu")
    assert len(table) == 6
    row = table[(table.language == "es") & (table.trial == 3)].iloc[0]
    assert row.asr_bleu == 44.6 and row.test_asr_bleu == 41.0 and row["schedule.end"] == 0.8
    assert row.to_paper == pytest.approx(6.6)
    assert table[table.language == "fr"].to_paper.isna().all()


def test_the_front_is_what_nothing_beats_in_score_and_cost() -> None:
    lines = [
        result(0, 10.0, train_seconds=30.0), result(1, 20.0, train_seconds=20.0),
        result(2, 25.0, train_seconds=40.0), result(3, 20.0, train_seconds=25.0),
        diverged(4, train_seconds=1.0), result(5, 5.0, train_seconds=10.0),
    ]  # fmt: skip
    assert [r.trial for r in pareto(lines, "asr_bleu")] == [5, 1, 2]
    letters = [replace(r, chrf=-r.asr_bleu) for r in lines if r.status == "complete"]
    assert [r.trial for r in pareto(letters, "chrf")] == [5]


def test_a_missing_file_holds_no_results(tmp_path: Path) -> None:
    assert read(tmp_path / "results.jsonl") == []


@settings(deadline=None)  # a busy machine must not fail it
@given(cut=st.integers(min_value=0))
def test_a_torn_last_line_is_dropped_by_reader_and_writer(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "results.jsonl"
    append(path, result(0, 10.0))
    whole = path.stat().st_size
    append(path, result(1, 20.0))
    size = path.stat().st_size
    # Every length between the first line and the second: a crash may leave any of them.
    length = whole + cut % (size - whole + 1)
    os.truncate(path, length)
    # With only the newline missing the line is whole and counts.
    kept = [result(0, 10.0), *([result(1, 20.0)] if length >= size - 1 else [])]
    assert read(path) == kept
    append(path, result(2, 30.0))
    assert read(path) == [*kept, result(2, 30.0)]


def test_a_bad_line_in_the_middle_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"language": "es"}\n')
    append(path, result(1, 20.0))
    with pytest.raises(ResultsError, match=r"results\.jsonl:1: trial: .*delete the line"):
        read(path)


@pytest.mark.parametrize("text", ["[]\n", "not json\n", "1\n"])
def test_a_line_that_is_no_object_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(ResultsError, match=r"results\.jsonl:1: "):
        read(path)


def test_scores_must_be_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(tmp_path / "results.jsonl", result(0, float("nan")))
    assert read(tmp_path / "results.jsonl") == []


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append(path, replace(result(0, 1.0), status="stopped"))  # type: ignore[arg-type]
    with pytest.raises(ResultsError, match=r"results\.jsonl:1: status: "):
        read(path)


def test_the_best_is_the_highest_complete_score_the_earlier_of_equals() -> None:
    assert best([diverged(0), result(3, 30.0), result(2, 30.0)], "asr_bleu") == result(2, 30.0)
    assert best([diverged(0)], "asr_bleu") is None


def test_a_repeated_evaluation_counts_once() -> None:
    repeated = replace(result(0, 12.0), overhead_seconds=9.0)
    assert latest([result(0, 10.0), result(1, 20.0), repeated]) == [repeated, result(1, 20.0)]


def test_segments_that_trials_share_are_trained_once() -> None:
    lines = [result(0, 1.0, states=("a", "b")), result(1, 2.0, states=("a", "c"))]
    entry = summarise(lines, name="toy", split="dev").as_dict()["languages"]["es"]
    assert (entry["fidelity"]["segments_asked"], entry["fidelity"]["segments_trained"]) == (4, 3)


def test_summary_is_the_documented_shape() -> None:
    summary = summarise(
        search(), name="toy", split="dev", report_split="test", pairs={"es": 300, "fr": 1000}
    ).as_dict()
    assert summary["name"] == "toy"
    assert summary["trials"] == 6
    assert summary["wall_s"] == 80.0
    assert summary["overhead_s_per_trial"] == 0.25
    assert summary["signature"] == SIGNATURE
    assert list(summary["languages"]) == ["es", "fr"]
    spanish = summary["languages"]["es"]
    assert spanish["pairs"] == 300 and spanish["trials"] == 5 and spanish["diverged"] == 1
    assert list(spanish["references"]) == ["none", "paper", "constant"]
    assert spanish["references"]["none"]["asr_bleu"] == 16.0
    assert spanish["references"]["none"]["ci"] == [11.0, 21.0]
    assert "test" not in spanish["references"]["none"]
    assert spanish["references"]["paper"]["test"]["asr_bleu"] == 36.0
    assert spanish["best"]["trial"] == 3 and spanish["best"]["schedule"] == LINEAR.model_dump()
    assert spanish["best"]["test"] == {"asr_bleu": 41.0, "ci": [36.0, 46.0], "sentences": 100}
    french = summary["languages"]["fr"]
    assert french["best"]["reference"] == "none"
    json.dumps(summary, allow_nan=False)


def test_what_stands_beside_the_scores_is_in_the_summary() -> None:
    lines = [
        result(1, 38.0, reference="paper"), result(3, 44.6, chrf=60.0, train_seconds=20.04),
        result(3, 41.0, split="test", sentences=100),
    ]  # fmt: skip
    fresh, held = Fresh(40.5, (38.0, 43.0), (2, 3), 41.5, 0), Difference(1.0, (-1.0, 3.0), 0.3)
    score = Score(93.0, (90.0, 95.0), SIGNATURE, 64)
    summary = summarise(
        lines, name="toy", split="dev", report_split="test", workers=2,
        ceilings={"es": {"dev": Ceiling("dev", audio=score, resynthesis=score)}},
        answers={"es": Answer("shown", lines[0], lines[1], {3: fresh}, {"paper": held}, 3.1)},
        certificates={"es": Certificate("at a top", (Neighbour("schedule.end+", 0.85, held),))},
    )  # fmt: skip
    reference_speech = {
        "asr_bleu": 93.0, "ci": [90.0, 95.0], "signature": SIGNATURE, "sentences": 64,
    }  # fmt: skip
    difference = {"asr_bleu": 1.0, "ci": [-1.0, 3.0], "p": 0.3}
    entry = json.loads(json.dumps(summary.as_dict()))["languages"]["es"]
    assert entry == {
        "verdict": "shown", "chosen": {"trial": 1, "reference": "paper"}, "pairs": None,
        "trials": 2, "diverged": 0, "signature": SIGNATURE,
        "references": {"paper": {
            "asr_bleu": 38.0, "ci": [33.0, 43.0], "schedule": LINEAR.model_dump(), "trial": 1,
            "reference": "paper", "status": "complete", "metrics": {},
        }},
        "best": {
            "asr_bleu": 44.6, "ci": [39.6, 49.6], "schedule": LINEAR.model_dump(), "trial": 3,
            "reference": None, "status": "complete", "metrics": {"chrf": 60.0},
            "test": {"asr_bleu": 41.0, "ci": [36.0, 46.0], "sentences": 100},
            "fresh": {"asr_bleu": 40.5, "ci": [38.0, 43.0], "seeds": [2, 3], "on_split": 41.5,
                      "diverged": 0},
            "overrides": {"schedule.end": 0.8}, "trials": [3], "difference": {"paper": difference},
            "optimism": 3.1,
            "certificate": {"verdict": "at a top", "neighbours": [
                {"knob": "schedule.end+", "value": 0.85, **difference}
            ]},
        },
        "pareto": [{"trial": 3, "asr_bleu": 44.6, "device_seconds": 40.1}],
        "fidelity": {"used": False, "rank_correlation": None, "segments_asked": 2,
                     "segments_trained": 2},
        "ceilings": {"dev": {"split": "dev", "audio": reference_speech,
                             "resynthesis": reference_speech}},
    }  # fmt: skip


def test_an_unfinished_search_has_a_summary_too() -> None:
    summary = summarise([], name="toy", split="dev", pairs={"es": 300})
    assert summary.trials == 0 and summary.wall_s == 0.0
    assert summary.as_dict()["languages"]["es"]["best"] is None
    assert "no finished trial" in markdown(summary)


def test_scores_of_different_signatures_are_not_compared() -> None:
    lines = [result(0, 10.0), result(1, 20.0, signature="other")]
    with pytest.raises(ResultsError, match="'es' were scored in different ways"):
        summarise(lines, name="toy", split="dev")


def test_the_summary_is_written_whole(tmp_path: Path) -> None:
    summary = summarise(search(), name="toy", split="dev").as_dict()
    (tmp_path / "run").mkdir()
    RunDirectory(tmp_path / "run").write_summary(summary)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["summary.json"]


def test_the_tables_show_every_run_with_interval_and_signature() -> None:
    score = Score(93.0, (90.0, 95.0), SIGNATURE, 64)
    summary = summarise(
        search(),
        name="toy",
        split="dev",
        report_split="test",
        pairs={"es": 300, "fr": 1000},
        ceilings={"es": {"dev": Ceiling("dev", audio=score, resynthesis=score)}},
    )
    text = markdown(summary)
    assert "| pairs | run | schedule | ASR-BLEU, dev | vs paper | ASR-BLEU, test |" in text
    assert "16.0 [11.0, 21.0]" in text
    assert "**best, #3**" in text and "**41.0 [36.0, 46.0]**" in text
    assert "best = none" in text
    assert f"Signature: `{SIGNATURE}`" in text
    assert "resynthesis 93.0 [90.0, 95.0]" in text
    assert "overhead 0.25 s a trial" in text
    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(terminal(summary))
    shown = console.export_text()
    for part in ("es, 300", "44.6 [39.6, 49.6]", "best, #3"):
        assert part in shown
