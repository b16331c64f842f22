"""Configs as nobody should write them: the shipped ones and a small one, mistreated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from raystt.config.yaml_source import parse
from raystt.schedule import SHAPES
from tests.fuzz.harness import damaged, relined, restructured

SHIPPED = [
    path.read_bytes()
    for path in sorted(Path(__file__).parents[2].joinpath("search_spaces").glob("*.yaml"))
]

RUN = b"""\
name: first
seed: 1
language: es
corpus:
  path: data/embedded
  languages:
    es: {train: 300, dev: 10, test: null}
    fr: {train: 1000}
  reader: manifest
  sources: {manifest: pairs.tsv}
  units: {encoder: some/encoder, layer: 3, source: 10, target: null}
  finetune: {steps: 20}
  alignment: {method: ctc}
  tokenizer: some/model
model: {base: some/model, lora: {rank: 4}}
interleaving: {rule: independent, side: both}
schedule: {shape: polynomial, initial: 0.8, power: 1.5}
training: {steps: 20, learning_rate: 1e-4, zero_stage: 1, precision: fp32}
evaluation: {split: dev, sentences: 4, asr: whisper, asr_model: some/whisper@main}
resources: {cpus: 2, trainers: 2, gpus_per_worker: 0.5}
storage: runs
"""

SEARCH = b"""\
name: s
seed: 2
languages: [es, fr]
trials: 9
sampler: tpe
fidelity: {segments: 2}
references: [none, paper]
reference_schedules: {paper: {shape: linear, end: 0.5}}
ablations:
  slow: {of: paper, set: {schedule.end: 1.0}, languages: [es]}
keep: best
tracking: [mlflow]
space:
  schedule.shape: {choice: [linear, polynomial, staircase]}
  schedule.initial: {float: [0.5, 1.0], step: 0.1}
  schedule.hold: {float: [0.0, 0.4]}
  schedule.end: {float: [0.45, 1.0], languages: [es]}
  schedule.power: {float: [0.5, 3.0], log: true, when: {schedule.shape: polynomial}}
  training.steps: {int: [10, 100], step: 10}
  training.batch_utterances: {int: [1, 64], log: true}
  interleaving.rule: {choice: [poisson, independent]}
  interleaving.span_mean: {float: [1.0, 10.0], when: {interleaving.rule: [poisson]}}
base:
  corpus: {languages: {es: {train: 300}, fr: {train: 1000}}}
  schedule: {shape: staircase}
  training: {steps: 20}
"""

WHOLES = [*SHIPPED, RUN, SEARCH]

# Scalars, tags, anchors and the like, as they may stand in a flow collection.
_SNIPPETS = """\
~ null true no x es 0 -1 1 2 0.5 1.5 1e-9 -0.0 .nan .inf -.inf 1e308 -1e308 1e309 5e-324 0x1f 0o7
010 1_000 1:30 2026-01-01 = << [] {} [[]] *a @x x@ @ `x` %x | > |9 ' " # --- ... .. a/b s3://b/c /
é {language} schedule.shape linear none "\\ud800" "\\UFFFFFFFF" "\\U00110000" "\\x00" "\\0"
!!python/name:os.system
"""
_PHRASES = """\
!!float ''
!!int ''
!!bool ''
!!null x
!!int 1_0
!!float x
!!str 1
!!set {a, b}
!!binary aGk=
!!timestamp x
!x y
!<x> y
! x
!!map []
!!seq {}
&a x
&a [*a]
&a {x: 1}
{<<: *a}
{<<: {x: 1}}
{x: {y: {z: 1}}}
{x: 1, x: 2}
? [1]
a: b
- 1
# x
--- 1
[1, a]
[es, es]
[0.5, 0.5]
[1, 2, 3]
[2, 1]
[1e308, -1e308]
[-1e308, 1e308]
[0, 1e-300]
{choice: [1]}
{choice: [1, true, '1']}
{choice: [.nan, .nan]}
{float: [0.0, 1.0], step: 1e-320}
{float: [-1e308, 1e308]}
{float: [-1e308, 1e308], step: 0.1}
{float: [1e-12, 5e-12], step: 1e-12}
{int: [1, 9007199254740993]}
{int: [1, 2], step: 2}
"""
SNIPPETS = (
    *("", "\t", "\tx", "x\ny", "\u2028", "\ufeff", "😀", "a" * 300),
    *("9" * 30, "-" + "9" * 400, "9" * 4300, "9" * 4301, "{int: [0, " + "9" * 400 + "]}"),
    *("!!float 1:" + "1:" * 200 + "1", "%YAML 9.9\n---", "%YAML " + "9" * 5000, "%TAG ! x\n---"),
    *("[" * 40 + "]" * 40, "[" * 3000, "{a: " * 40 + "1" + "}" * 40),
    f"{{choice: {list(range(60))}}}",
    *_SNIPPETS.split(),
    *_PHRASES.splitlines(),
)


def laughs(width: int, depth: int) -> bytes:
    """Aliases that spell `width` ** `depth` values in a few lines."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines).encode()


def ladder(depth: int) -> bytes:
    """Aliases that nest one in another, each of them flat."""
    return b"\n".join(b"a%d: &a%d [*a%d]" % (i, i, i - 1) if i else b"a0: &a0 [x]"
                      for i in range(depth))  # fmt: skip


def _rendered(data: Any) -> bytes:
    """Write plain data as flow YAML, in which a text that begins with `raw ` is YAML itself."""
    text = json.dumps(data, ensure_ascii=False)
    for snippet in SNIPPETS:
        text = text.replace(json.dumps(f"raw {snippet}", ensure_ascii=False), snippet)
    return text.encode("utf-8", "surrogatepass")


_SCALARS = (
    st.sampled_from([f"raw {snippet}" for snippet in SNIPPETS])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
_VALUES = (
    _SCALARS
    | st.lists(_SCALARS, max_size=3)
    | st.dictionaries(st.text(max_size=4), _SCALARS, max_size=3)
)
_TOKENS = [snippet.encode("utf-8", "surrogatepass") for snippet in SNIPPETS]


def structured(tree: Any) -> st.SearchStrategy[bytes]:
    """Plain data with its structure changed, as flow YAML."""
    return restructured(tree, _VALUES).map(_rendered)


def texts(*wholes: bytes) -> st.SearchStrategy[bytes]:
    """Configs made of `wholes` by structure, by line and by byte, and texts of no structure."""
    trees = [parse(whole.decode()).data for whole in wholes]
    nothing = st.lists(st.sampled_from(_TOKENS), max_size=12).map(b" ".join)
    return st.one_of(
        *(structured(tree) for tree in trees),
        *(relined([whole], _TOKENS) for whole in wholes),
        damaged(wholes, _TOKENS),
        nothing | st.binary(max_size=200),
    )


_RANGES = {
    "schedule.initial": st.floats(0.5, 1),
    "schedule.final": st.floats(0, 0.5),
    "schedule.hold": st.floats(0, 0.5, exclude_max=True),
    "schedule.end": st.floats(0.5, 1),
    "schedule.rate": st.floats(0.1, 50),
    "schedule.step": st.floats(0.001, 1),
    "interleaving.span_mean": st.floats(0, 100),
    "training.learning_rate": st.floats(0, 1, exclude_min=True),
    "training.warmup": st.floats(0, 1, exclude_max=True),
    "training.weight_decay": st.floats(0),
    "training.steps": st.integers(1, 10_000_000),
    "training.batch_utterances": st.integers(1),
    "training.zero_stage": st.integers(0, 3),
}
_WORDS = {
    "schedule.shape": tuple(SHAPES),
    "interleaving.rule": ("poisson", "independent"),
    "interleaving.side": ("both", "source", "target"),
    "interleaving.modality_tokens": ("true", "false"),
}
_STEPS = st.sampled_from(("1", "10", "0.1", "0.05", "0.3", "1e-3", "1e-5", "1e-9")) | st.floats(
    1e-8, 1
).map(repr)


@st.composite
def entries(draw: st.DrawFn) -> str:
    """The entries of a space with values that the keys can take, and that may go together."""
    pool = st.sampled_from([*_RANGES, *_WORDS])
    keys = draw(st.lists(pool, min_size=1, max_size=6, unique=True))
    rarely = st.integers(0, 5).map(lambda drawn: not drawn)
    conditions = []
    lines = []
    for key in keys:
        if key in _WORDS:
            words = draw(st.lists(st.sampled_from(_WORDS[key]), min_size=1, unique=True))
            entry = f"choice: [{', '.join(words)}]"
            conditions += [f"{{{key}: {word}}}" for word in words]
        else:
            values = draw(st.lists(_RANGES[key], min_size=2, max_size=4, unique=True))
            whole = isinstance(values[0], int)
            if draw(rarely):
                entry = f"choice: {values}"
            else:
                entry = f"{'int' if whole else 'float'}: {sorted(values)[:2]}"
                if draw(rarely):
                    entry += ", log: true"
                elif draw(st.booleans()):
                    entry += f", step: {draw(st.integers(1, 9) if whole else _STEPS)}"
        if draw(rarely):
            entry += ", languages: [es]"
        if conditions and draw(rarely):
            entry += f", when: {draw(st.sampled_from(conditions))}"
        lines.append(f"  {key}: {{{entry}}}")
    return "\n".join(lines)
