"""The tables of `paper_ablations.py`: each system beside the paper's number, and every ordering.

Seeds are pooled by adding up the BLEU statistics of a sentence over them: a resampled sentence
brings all its seeds along, so that runs that translate the same sentences are not taken for
independent. The tests are over sentences; how far seeds differ stands beside them.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from raystt.scores import asr_bleu, bleu, holm

PAPER = {
    "scheduled": 19.5,
    "target_only": 12.6,
    "constant": 12.0,
    "no_alignment": 11.5,
    "source_only": 11.1,
    "none": 10.3,
    "mask": 6.2,
}
"""ASR-BLEU for Portuguese in the paper, from the best system to the worst."""
SYSTEMS = tuple(PAPER)
TITLES = {
    "scheduled": "scheduled, 0.9 to 0 by 0.1",
    "none": "baseline, no interleaving",
    "constant": "constant 0.3",
    "source_only": "input side only",
    "target_only": "output side only",
    "mask": "mask instead of text",
    "no_alignment": "no alignment, equal lengths",
}
RESAMPLES, LEVEL = 10_000, 0.05


class Tables(NamedTuple):
    """Rows of the systems and of the orderings, each from the paper's best to its worst."""

    systems: list[dict[str, Any]]
    orderings: list[dict[str, Any]]


def compared(lines: list[dict[str, Any]]) -> Tables:
    """Compare the systems.

    Args:
        lines: Finished runs, every system on the same seeds and sentences.

    Raises:
        ValueError: The runs were not scored in the same way.
    """
    if len({line["signature"] for line in lines}) > 1:
        raise ValueError("the runs were scored in different ways; delete runs.jsonl and score anew")
    runs = {name: [line for line in lines if line["system"] == name] for name in SYSTEMS}
    pooled = {
        name: np.sum([line["statistics"] for line in own], axis=0) for name, own in runs.items()
    }

    def against(a: str, b: str) -> dict[str, Any]:
        difference, ci, p = bleu().compare(pooled[a], pooled[b], resamples=RESAMPLES)
        return {"difference": difference, "ci": ci, "p": p}

    systems: list[dict[str, Any]] = []
    for name, own in runs.items():
        scores = [line["asr_bleu"] for line in own]
        whole = asr_bleu(pooled[name], signature=own[0]["signature"], resamples=RESAMPLES)
        systems.append({
            "system": name,
            "paper": PAPER[name],
            "mean": float(np.mean(scores)),
            "range": (min(scores), max(scores)),
            "pooled": whole.asr_bleu,
            "pooled_ci": whole.ci,
            "runs": [{key: line[key] for key in ("seed", "asr_bleu", "ci")} for line in own],
            "achieved_words": float(np.mean([line["achieved_words"] for line in own])),
            "against": {b: against(name, b) for b in ("scheduled", "none") if b != name},
        })  # fmt: skip
    orderings: list[dict[str, Any]] = []
    for better, worse in itertools.combinations(SYSTEMS, 2):
        found = against(better, worse)
        pairs = zip(runs[better], runs[worse], strict=True)
        agree = sum(a["asr_bleu"] > b["asr_bleu"] for a, b in pairs)
        orderings.append({
            "better": better, "worse": worse, **found, "seeds_agreeing": agree,
            "seeds": len(runs[better]),
        })  # fmt: skip
    for row, p in zip(orderings, holm([row["p"] for row in orderings]), strict=True):
        row["p_holm"], row["verdict"] = p, "undecided"
        if p < LEVEL and row["seeds_agreeing"] == row["seeds"]:
            row["verdict"] = "reproduces"
        elif p < LEVEL and not row["seeds_agreeing"] and row["difference"]:
            row["verdict"] = "does not"
    return Tables(systems, orderings)


def markdown(tables: Tables, setting: dict[str, Any]) -> str:
    """Write the tables for people, with what they rest on."""
    pairs, seeds = setting["pairs"], len(tables.systems[0]["runs"])
    parts = [
        "# The paper's ablations on the embedded corpus",
        f"Left the paper's ASR-BLEU for Portuguese (arXiv 2506.10299; 7 hours of speech, one run "
        f"each), beside it this corpus: `{setting['language']}`, {pairs['train']} training pairs, "
        f"{setting['steps']} steps of {setting['batch_utterances']} pairs, {pairs['test']} test "
        f"sentences, {seeds} seeds. Words are chosen by the rule `{setting['rule']}`, sequences "
        f"are `{setting['format']}`; the paper draws Poisson spans and writes a chain of thought. "
        "Its units are not deduplicated, these are: equal words are equal in units here, not in "
        "time. The mask control has one mask a unit, on which the loss counts; the paper does not "
        "say. The numbers of the two columns do not compare, their orderings do.",
        _system_table(tables.systems),
        "Mean and range are over seeds. The interval of a run and the differences are from "
        f"bootstraps over sentences (95 %, {RESAMPLES} resamples for the differences, paired, "
        "seeds of a sentence together). They say nothing of the choice of seeds.",
        "## Orderings",
        _count(tables.orderings),
        _ordering_table(tables.orderings),
        f"`reproduces` and `does not`: p < {LEVEL} in the paired bootstrap after Holm's correction "
        f"for {len(tables.orderings)} tests, and every seed agrees. Scores of a few BLEU are at "
        "the floor of this stack: the order of two such systems says little. The paper tests none "
        "of its differences.",
        f"Signature: `{setting['signature']}`",
    ]
    return "\n\n".join(parts) + "\n"


def _system_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| system | paper, Pt | here, mean | range | each seed | words that were text | "
        "to scheduled | to baseline |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        each = ", ".join(f"{r['asr_bleu']:.1f} {_interval(r['ci'])}" for r in row["runs"])
        low, high = row["range"]
        # Achieved over the whole training; masks stand for text in the mask control.
        cells = [
            TITLES[row["system"]],
            f"{row['paper']:.1f}",
            f"{row['mean']:.1f}",
            f"{low:.1f} to {high:.1f}",
            each,
            f"{row['achieved_words']:.2f}",
            *(_difference(row["against"].get(name)) for name in ("scheduled", "none")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ordering_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| the paper's ordering | paper, Pt | difference here | seeds | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        better, worse = row["better"], row["worse"]
        cells = [
            f"{TITLES[better]} > {TITLES[worse]}",
            f"{PAPER[better]:.1f} > {PAPER[worse]:.1f}",
            _difference(row),
            f"{row['seeds_agreeing']} of {row['seeds']}",
            row["verdict"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _count(orderings: list[dict[str, Any]]) -> str:
    found = [row["verdict"] for row in orderings]
    return (
        f"Of the {len(found)} orderings of the paper's row, {found.count('reproduces')} reproduce, "
        f"{found.count('does not')} turn round, {found.count('undecided')} are undecided."
    )


def _interval(ci: tuple[float, float]) -> str:
    return f"[{ci[0]:.1f}, {ci[1]:.1f}]"


def _difference(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['difference']:+.1f} {_interval(found['ci'])}, p {found['p']:.4f}"
