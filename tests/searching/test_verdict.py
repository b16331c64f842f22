"""What a search answers, from results and hypotheses as they lie on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import confirm, result
from tiny import tiny_search

from raystt.config import SearchConfig
from raystt.results import Result
from raystt.searching.claim import claimed
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import fresh_seeds
from raystt.searching.reconcile import reconcile
from raystt.searching.verdict import answers, missing, to_confirm


def search_of(path: Path, **changes: Any) -> SearchConfig:
    return tiny_search(path, **{"confirm": {"top": 2, "seeds": 3}, "trials": 8, **changes})


def trial(number: int, score: float, reference: str | None = None) -> Result:
    return result(number, score, reference=reference, overrides={"schedule.end": 0.8})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A search with three references and three proposals, of which nothing is confirmed."""
    with claimed(search_of(tmp_path), resume=False, overwrite=False) as directory:
        for one in (
            trial(0, 1.0, "none"), trial(1, 20.0, "paper"), trial(2, 25.0, "constant"),
            trial(3, 30.0), trial(4, 10.0), trial(5, 28.0),
        ):  # fmt: skip
            directory.append(one)
    return directory


def fresh(run: RunDirectory, seed: int, **right: float) -> None:
    """Confirm trials, named t<number>, with a share of the words right."""
    rng, known = np.random.default_rng(seed), {r.trial: r for r in run.read()}
    for name, share in right.items():
        confirm(run, known[int(name[1:])], share, rng)


def test_leading_proposals_and_what_they_are_held_against_are_trained_anew(
    run: RunDirectory,
) -> None:
    search = run.load_config()
    assert [r.trial for r in to_confirm(search, run.read())] == [3, 5, 1, 2]
    assert search.confirmations_of("es") == 4 * 3
    fixed = [r for r in run.read() if r.reference]
    assert to_confirm(search, fixed) == []  # nothing was proposed
    assert list(fresh_seeds(search)) == [2, 3, 4]
    lacking = missing(search, run, run.read())
    assert len(lacking) == 4 * 3
    assert {tuple(splits) for _, splits in lacking} == {("dev", "test")}


def test_more_seeds_continue_a_confirmed_search(run: RunDirectory, tmp_path: Path) -> None:
    fresh(run, 1, t3=0.9, t5=0.5, t1=0.5, t2=0.5)
    assert not missing(run.load_config(), run, run.read())
    more = search_of(tmp_path, confirm={"top": 2, "seeds": 4})
    with claimed(more, resume=True, overwrite=False) as directory:
        lacking = missing(more, directory, directory.read())
        assert {one.seed for one, _ in lacking} == {5}
        assert [one.trial for one, _ in lacking] == [3, 5, 1, 2]


def test_without_confirmation_the_highest_score_is_shown_for_what_it_is(run: RunDirectory) -> None:
    answer = answers(run.load_config(), run)["es"]
    assert answer.chosen.trial == 3 and answer.best is None
    assert "flatters itself" in answer.verdict and not answer.fresh


def test_what_beats_the_papers_schedule_is_chosen(run: RunDirectory) -> None:
    fresh(run, 0, t3=0.80, t5=0.90, t1=0.70, t2=0.72)
    assert missing(run.load_config(), run, run.read()) == []
    answer = answers(run.load_config(), run)["es"]
    # Not the one that chance put first.
    assert answer.best is not None and answer.chosen.trial == answer.best.trial == 5
    assert answer.fresh[5].score > answer.fresh[3].score > answer.fresh[1].score
    difference = answer.differences["paper"]
    assert difference.score == pytest.approx(answer.fresh[5].score - answer.fresh[1].score)
    low, high = difference.ci
    assert low < difference.score < high and difference.p < 0.01
    assert answer.verdict == (
        f"better than the paper's staircase by {difference.score:.1f} [{low:.1f}, {high:.1f}]"
    )
    # Of the score that led, not of the one that is chosen now.
    dev = [r.asr_bleu for r in run.read_confirmation() if r.trial == 3 and r.split == "dev"]
    assert answer.optimism == pytest.approx(30.0 - np.mean(dev))


def test_the_best_is_chosen_by_the_split_that_trials_are_compared_on(run: RunDirectory) -> None:
    rng, known = np.random.default_rng(8), {r.trial: r for r in run.read()}
    confirm(run, known[3], 0.8, rng, dev=0.9)
    confirm(run, known[5], 0.9, rng, dev=0.8)
    fresh(run, 8, t1=0.7, t2=0.7)
    answer = answers(run.load_config(), run)["es"]
    assert answer.best is not None and answer.best.trial == 3
    assert answer.fresh[3].on_split > answer.fresh[5].on_split
    assert answer.fresh[3].score < answer.fresh[5].score


def test_a_reference_that_is_better_than_all_is_chosen(run: RunDirectory) -> None:
    fresh(run, 9, t3=0.8, t5=0.7, t1=0.6, t2=0.95)
    answer = answers(run.load_config(), run)["es"]
    assert answer.best is not None and answer.best.trial == 3
    assert answer.chosen.reference == "constant"
    assert answer.verdict.startswith("better than the paper's staircase by ")
    assert "; worse than a constant ratio by " in answer.verdict
    own = {"reference_schedules": {"paper": {"shape": "linear"}}}
    verdict = answers(search_of(run.path.parent, **own), run)["es"].verdict
    assert verdict.startswith("better than the reference paper by ")


def test_a_verdict_before_all_is_trained_says_so(run: RunDirectory) -> None:
    fresh(run, 0, t3=0.80, t1=0.70, t2=0.72)
    verdict = answers(run.load_config(), run)["es"].verdict
    assert verdict.endswith("; trainings on fresh seeds still to come: 3")


def test_what_is_not_shown_to_be_better_leaves_the_papers_schedule(run: RunDirectory) -> None:
    fresh(run, 1, t3=0.8, t5=0.8, t1=0.8, t2=0.8)
    answer = answers(run.load_config(), run)["es"]
    assert answer.verdict.startswith("not shown to be better than the paper's staircase; ")
    assert answer.chosen.reference == "paper" and answer.best and answer.best.trial in (3, 5)


def test_an_interval_without_zero_does_not_show_what_several_comparisons_do_not(
    run: RunDirectory,
) -> None:
    fresh(run, 24, t3=0.7, t5=0.84, t1=0.8, t2=0.75)
    answer = answers(run.load_config(), run)["es"]
    difference = answer.differences["paper"]
    assert difference.ci[0] > 0 and difference.p > 0.05
    assert answer.verdict.startswith("not shown to be better than the paper's staircase; ")
    assert answer.verdict.endswith(f"], p = {difference.p:.2f} among all comparisons")


def test_a_verdict_names_what_differs_beside_the_schedule(run: RunDirectory) -> None:
    own = {"schedule.end": 0.7, "training.learning_rate": 0.5, "interleaving.rule": "independent"}
    run.append(result(6, 40.0, overrides=own))
    fresh(run, 0, t3=0.7, t6=0.9, t1=0.7, t2=0.72)
    base = run.load_config().base
    verdict = answers(run.load_config(), run)["es"].verdict
    assert verdict.endswith(
        f"; beside the schedule it differs in interleaving.rule (independent, not "
        f"{base.interleaving.rule}), training.learning_rate "
        f"(0.5, not {base.training.learning_rate})"
    )


def test_what_is_worse_is_called_worse(run: RunDirectory) -> None:
    fresh(run, 2, t3=0.6, t5=0.6, t1=0.9, t2=0.7)
    answer = answers(run.load_config(), run)["es"]
    assert answer.verdict.startswith("worse than the paper's staircase by ")
    assert answer.chosen.reference == "paper"


def test_what_led_before_a_search_grew_may_still_be_the_best(run: RunDirectory) -> None:
    fresh(run, 2, t3=0.9, t5=0.7, t1=0.8, t2=0.7)
    before = answers(run.load_config(), run)["es"]
    assert before.best and before.best.trial == 3
    for number, score in ((6, 40.0), (7, 39.0)):
        run.append(trial(number, score))
    assert 3 not in [r.trial for r in to_confirm(run.load_config(), run.read())]
    fresh(run, 3, t6=0.6, t7=0.6)
    after = answers(run.load_config(), run)["es"]
    assert after.best and after.best.trial == 3 and set(after.fresh) == {1, 2, 3, 5, 6, 7}
    # More was compared, so it takes more to be better.
    assert after.differences["paper"].score == before.differences["paper"].score
    assert after.differences["paper"].p >= before.differences["paper"].p


def test_a_trial_without_all_its_fresh_seeds_is_no_answer(run: RunDirectory) -> None:
    fresh(run, 3, t3=0.95, t5=0.9, t1=0.7, t2=0.7)
    (run.trials / "es-003-seed3" / "hypotheses-test.jsonl").unlink()
    answer = answers(run.load_config(), run)["es"]
    assert answer.best and answer.best.trial == 5 and 3 not in answer.fresh
    ((lacking, splits),) = missing(run.load_config(), run, run.read())
    assert (lacking.label, lacking.seed, splits) == ("es#3/3", 3, ["test"])


def diverges(run: RunDirectory, trial: int, seed: int) -> None:
    """Let a confirmed trial diverge on a seed instead."""
    one = next(r for r in run.read() if r.trial == trial)
    for split in ("dev", "test"):
        (run.trials / f"es-{trial:03d}-seed{seed}" / f"hypotheses-{split}.jsonl").unlink()
        run.append_confirmation(
            dataclasses.replace(
                one, seed=seed, fresh=True, split=split, asr_bleu=0.0, status="diverged"
            )
        )


def test_a_schedule_that_diverges_on_a_fresh_seed_is_no_answer(run: RunDirectory) -> None:
    fresh(run, 5, t3=0.95, t5=0.9, t1=0.7, t2=0.7)
    diverges(run, 3, 3)
    answer = answers(run.load_config(), run)["es"]
    assert answer.best is not None and answer.best.trial == 5
    assert answer.fresh[3].diverged == 1 and answer.fresh[3].score < answer.fresh[5].score
    assert missing(run.load_config(), run, run.read()) == []  # it would diverge again


def test_a_leader_that_diverges_on_a_fresh_seed_leaves_the_papers_schedule(
    run: RunDirectory,
) -> None:
    fresh(run, 5, t3=0.95, t1=0.7, t2=0.6)
    diverges(run, 3, 2)
    search = search_of(run.path.parent, confirm={"top": 1, "seeds": 3})
    answer = answers(search, run)["es"]
    assert answer.best is not None and answer.best.trial == 3
    assert answer.chosen.reference == "paper"
    assert answer.verdict.endswith("; it diverged on 1 of 3 fresh seeds")


def test_a_papers_schedule_that_diverges_counts_as_that(run: RunDirectory) -> None:
    fresh(run, 5, t3=0.95, t5=0.9, t1=0.9, t2=0.6)
    for seed in (2, 3, 4):
        diverges(run, 1, seed)
    answer = answers(run.load_config(), run)["es"]
    assert answer.fresh[1].score == 0 and answer.chosen.trial == 3
    assert answer.verdict.startswith("better than the paper's staircase by ")


def test_a_damaged_line_is_set_aside_and_measured_again(run: RunDirectory) -> None:
    fresh(run, 4, t3=0.9, t5=0.9, t1=0.7, t2=0.7)
    lines = run.confirmation.read_text().splitlines(keepends=True)
    run.confirmation.write_text("".join([*lines[:3], "{}\n", *lines[4:]]))
    told: list[str] = []
    reconcile(run.load_config(), run, told.append)
    assert any("confirmation.jsonl: line 4" in text for text in told)
    assert len(missing(run.load_config(), run, run.read())) == 1


def test_the_objective_leads_and_decides(tmp_path: Path) -> None:
    with claimed(search_of(tmp_path, objective="chrf"), resume=False, overwrite=False) as run:
        for number, asr_bleu, letters, name in (
            (0, 20.0, 40.0, "paper"), (1, 30.0, 30.0, None), (2, 25.0, 60.0, None),
            (3, 10.0, 50.0, None),
        ):  # fmt: skip
            run.append(dataclasses.replace(trial(number, asr_bleu, name), chrf=letters))
    search = run.load_config()
    assert [r.trial for r in to_confirm(search, run.read())] == [2, 3, 0]
    fresh(run, 0, t2=0.9, t3=0.7, t0=0.6)
    answer = answers(search, run)["es"]
    assert answer.best is not None and answer.chosen.trial == answer.best.trial == 2
    assert answer.verdict.endswith("] chrF") and answer.verdict.startswith("better than")
    values = [r.chrf for r in run.read_confirmation() if r.trial == 2 and r.split == "test"]
    assert answer.fresh[2].score == pytest.approx(np.mean([v for v in values if v is not None]))


def test_an_ablation_may_be_the_best(tmp_path: Path) -> None:
    slow = {"slow": {"set": {"schedule.end": 1.0}}}
    search = search_of(tmp_path, ablations=slow)
    with claimed(search, resume=False, overwrite=False) as run:
        for one in (trial(0, 20.0, "paper"), trial(1, 25.0, "slow"), trial(2, 22.0)):
            run.append(one)
    assert [r.trial for r in to_confirm(search, run.read())] == [1, 2, 0]
    assert search.confirmations_of("es") == 4 * 3
    fresh(run, 4, t1=0.9, t2=0.7, t0=0.6)
    answer = answers(search, run)["es"]
    assert answer.best is not None and answer.chosen.reference == answer.best.reference == "slow"
    assert set(answer.differences) == {"paper"}
