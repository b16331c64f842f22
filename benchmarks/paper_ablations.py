"""Repeat the paper's Portuguese row on the embedded corpus: which of its orderings hold here?

    python benchmarks/paper_ablations.py                                  # all, on three seeds
    python benchmarks/paper_ablations.py --steps 10 --pairs 32 --seeds 1  # a dry run

Seven systems (the paper's three, and its four ablations for Portuguese, the language with the
least data) are trained and scored with the settings of `search_spaces/quickstart.yaml`, on the 300
Spanish pairs of its corpus and 256 test sentences in place of 64. The trainer and evaluator pools
come up once for all runs. Each finished run is a line of `runs/paper_ablations/runs.jsonl`: run
again, the script goes on where it was stopped. At the end it writes
`benchmarks/results/paper_ablations.json` and `.md`. A dry run checks that all this works: it keeps
to directories of its own and leaves `benchmarks/results/` alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from ablation_tables import SYSTEMS, compared, markdown
from record import ROOT, git, save

from raystt.cluster.start import ray_session
from raystt.config import REFERENCES, CorpusConfig, RunConfig, SearchConfig, load_search
from raystt.evaluation.jobs import Evaluation, EvaluationJob
from raystt.files import write_atomic
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.trainers import TrainerPool
from raystt.preparation.prepare import prepare
from raystt.training.jobs import SegmentJob, SegmentResult

LANGUAGE, TEST_SENTENCES = "es", 256
SPLIT = "test"
CONTROLS: dict[str, tuple[str, dict[str, str]]] = {
    "scheduled": ("paper", {}),
    "none": ("none", {}),
    "constant": ("constant", {}),
    "source_only": ("paper", {"side": "source"}),
    "target_only": ("paper", {"side": "target"}),
    "mask": ("paper", {"replacement": "mask"}),
    "no_alignment": ("paper", {"alignment": "equal"}),
}
"""Each system: whose schedule it has, and what differs from the quickstart's interleaving."""


class Planned(NamedTuple):
    """A run to be done."""

    system: str
    seed: int
    run: RunConfig

    @property
    def label(self) -> str:
        """Name the run for people."""
        return f"{self.system} seed {self.seed}"


def settings(steps: int | None, pairs: int | None) -> SearchConfig:
    """Return the quickstart's settings on this script's own corpus, made small for a dry run."""
    search = load_search(ROOT / "search_spaces" / "quickstart.yaml")
    corpus = search.base.corpus.model_dump()
    name, sizes = "paper_ablations", {**corpus["languages"][LANGUAGE], SPLIT: TEST_SENTENCES}
    if steps or pairs:
        name += f"-dry-{steps}-{pairs}"
    if pairs:
        sizes = dict.fromkeys(sizes, pairs)
    corpus |= {"path": str(ROOT / "data" / name), "languages": {LANGUAGE: sizes}}
    training = search.base.training
    if steps:
        training = training.model_copy(update={"steps": steps})
        corpus["vocoder"]["steps"] = corpus["base"]["steps"] = steps
    changes = {"corpus": CorpusConfig.model_validate(corpus), "training": training}
    base = search.base.model_copy(update={**changes, "storage": str(ROOT / "runs")})
    return search.model_copy(update={"name": name, "base": base})


def planned(search: SearchConfig, seeds: int) -> list[Planned]:
    """List the runs, seed after seed, so that an early look has every system."""
    runs = []
    for seed in range(1, seeds + 1):
        for system in SYSTEMS:
            origin, interleaving = CONTROLS[system]
            schedule = REFERENCES[origin].model_dump()
            overrides = {f"schedule.{key}": value for key, value in schedule.items()}
            overrides |= {f"interleaving.{key}": value for key, value in interleaving.items()}
            seeded = search.model_copy(update={"seed": seed})
            run = seeded.run_for(LANGUAGE, overrides, name=f"{search.name}-{system}-{seed}")
            runs.append(Planned(system, seed, run))
    return runs


def finished(path: Path, plans: list[Planned]) -> dict[str, dict[str, Any]]:
    """Read the runs that were done with these very settings, by fingerprint."""
    if not path.exists():
        return {}
    wanted = {plan.run.fingerprint() for plan in plans}
    known = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # cut short by a kill
            continue
        if line["fingerprint"] in wanted:
            known[line["fingerprint"]] = line
    return known


def work_off(search: SearchConfig, plans: list[Planned], directory: Path) -> list[str]:
    """Train and score runs through pools that come up once.

    Args:
        search: The settings that all runs share.
        plans: The runs that are still missing.
        directory: Gets a line of `runs.jsonl` for each of them, models and logs.

    Returns:
        What failed and why, one line each.
    """
    resources, config = search.base.resources, search.base.evaluation
    shutil.rmtree(directory / "ray", ignore_errors=True)  # Train would restore an earlier driver's
    with ray_session(resources):
        import ray  # after `ray_session` has set what Ray reads when it is imported

        prepare(search.base.corpus, resources=resources, progress=_tell_of_stage)
        corpus = search.base.corpus.path
        print("starting trainers and evaluators", flush=True)
        with (
            TrainerPool(resources, directory / "ray") as trainers,
            EvaluatorPool(corpus, config, resources) as evaluators,
        ):
            trainers.wait_until_ready()
            evaluators.wait_until_ready()
            began, done, failed = time.monotonic(), 0, []
            pending = {
                trainers.broker.run.remote(_segment(plan, corpus, directory), plan.label): plan
                for plan in plans
            }
            trained: dict[str, SegmentResult] = {}
            while pending:
                (ready,), _ = ray.wait(list(pending), num_returns=1)
                plan = pending.pop(ready)
                try:
                    result = ray.get(ready).result
                except ray.exceptions.RayTaskError as error:
                    failed.append(f"{plan.label}: {error.cause}")
                    continue
                if isinstance(result, SegmentResult):
                    if result.status == "diverged":
                        failed.append(f"{plan.label}: diverged at step {result.diverged_at}")
                        continue
                    trained[plan.label] = result
                    job = _evaluation(plan, corpus, result)
                    pending[evaluators.dispatcher.run.remote(job, plan.label)] = plan
                    continue
                done += 1
                line = _line(plan, trained[plan.label], result)
                with (directory / "runs.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                minutes = (time.monotonic() - began) / done * (len(plans) - done) / 60
                print(
                    f"[{done}/{len(plans)}] {plan.label}: {line['asr_bleu']:.1f} "
                    f"[{line['ci'][0]:.1f}, {line['ci'][1]:.1f}], trained in "
                    f"{line['train_seconds']:.0f} s, about {minutes:.0f} min left",
                    flush=True,
                )
    return failed


def _segment(plan: Planned, corpus: str, directory: Path) -> SegmentJob:
    return SegmentJob(
        run=plan.run,
        corpus=corpus,
        start=0,
        stop=plan.run.training.steps,
        parent=None,
        states=str(directory / "states"),
        log=str(directory / "logs" / plan.run.name),
    )


def _evaluation(plan: Planned, corpus: str, trained: SegmentResult) -> EvaluationJob:
    return EvaluationJob(
        model=str(trained.model),
        language=LANGUAGE,
        split=SPLIT,
        config=plan.run.evaluation,
        interleaving=plan.run.interleaving,
    )


def _line(plan: Planned, trained: SegmentResult, evaluation: Evaluation) -> dict[str, Any]:
    """Return what is kept of a run: all that the tables need."""
    score = evaluation.score(plan.run.evaluation)
    return {
        "system": plan.system,
        "seed": plan.seed,
        "fingerprint": plan.run.fingerprint(),
        "commit": git("rev-parse", "HEAD"),
        "asr_bleu": score.asr_bleu,
        "ci": list(score.ci),
        "signature": score.signature,
        "sentences": score.sentences,
        "metrics": evaluation.metrics(),
        "achieved_words": trained.achieved_words,
        "train_tokens": trained.tokens,
        "train_seconds": trained.seconds,
        "evaluate_seconds": evaluation.seconds,
        "statistics": evaluation.statistics.tolist(),
    }


_told: set[str] = set()


def _tell_of_stage(stage: str, done: int, total: int) -> None:
    """Print a stage of the preparation once it is complete."""
    if done >= total and stage not in _told:
        _told.add(stage)
        print(f"prepared: {stage}", flush=True)


def write(search: SearchConfig, lines: list[dict[str, Any]], results: Path | None) -> None:
    """Print the tables and write them with all that is needed to repeat them.

    Args:
        search: The settings of all runs.
        lines: The finished runs.
        results: Directory of the results; None of a dry run, which is only printed.
    """
    setting = {
        "language": LANGUAGE,
        "pairs": search.base.corpus.languages[LANGUAGE].model_dump(),
        "steps": search.base.training.steps,
        "batch_utterances": search.base.training.batch_utterances,
        "rule": search.base.interleaving.rule,
        "format": search.base.interleaving.format,
        "trained_at_a_time": search.base.resources.trainers,
        "signature": lines[0]["signature"],
        "commits": sorted({line["commit"] for line in lines}),
    }
    tables = compared(lines)
    text = markdown(tables, setting)
    print(text)
    if results is None:
        return
    reference = "ASR-BLEU for Portuguese in arXiv 2506.10299, one run each, no test of differences"
    runs = [{key: line[key] for key in line if key != "statistics"} for line in lines]
    path = save(
        "paper_ablations",
        reference,
        setting,
        [*tables.systems, *tables.orderings, *runs],
        packages=["numpy", "ray", "sacrebleu", "torch", "transformers"],
    )
    path.replace(results / "paper_ablations.json")
    write_atomic(results / "paper_ablations.md", text)
    print(f"moved to {results.name}/paper_ablations.json, beside it paper_ablations.md")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each system (default 3)")
    parser.add_argument("--steps", type=int, help="dry run: steps of whatever is trained")
    parser.add_argument("--pairs", type=int, help="dry run: sentence pairs of every split")
    options = parser.parse_args()
    search = settings(options.steps, options.pairs)
    directory = Path(search.base.storage) / search.name
    directory.mkdir(parents=True, exist_ok=True)
    plans = planned(search, options.seeds)
    known = finished(directory / "runs.jsonl", plans)
    missing = [plan for plan in plans if plan.run.fingerprint() not in known]
    print(f"{len(plans)} runs, {len(plans) - len(missing)} of them done before", flush=True)
    failed = work_off(search, missing, directory) if missing else []
    for failure in failed:
        print(f"failed: {failure}", file=sys.stderr)
    if failed:
        print("no tables without these; run again to try them again", file=sys.stderr)
        return 1
    known = finished(directory / "runs.jsonl", plans)
    dry = options.steps or options.pairs
    lines = [known[plan.run.fingerprint()] for plan in plans]
    write(search, lines, None if dry else ROOT / "benchmarks" / "results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
