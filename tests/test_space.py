"""Search spaces: what a trial is asked, and which spaces are refused before anything starts."""

from __future__ import annotations

import pickle
import textwrap
from pathlib import Path
from typing import Any

import optuna
import pytest
from messages import tells
from pydantic import ValidationError

from raystt.config import (
    REFERENCES,
    ConfigError,
    SearchConfig,
    Space,
    load_any,
    load_search,
    to_yaml,
)
from raystt.config.overrides import searchable
from raystt.schedule import SHAPES, Knots, Linear, Polynomial, Staircase

HEAD = """\
name: s
languages: [es, fr]
trials: 6
base:
  corpus: {languages: {es: {train: 300}, fr: {train: 1000}}}
"""


class Recorder:
    """Answers like an Optuna trial, with the low or the high end, and keeps what was asked."""

    def __init__(self, high: bool = False, **fixed: Any) -> None:
        self.high = high
        self.fixed = {key.replace("__", "."): value for key, value in fixed.items()}
        self.asked: list[tuple[Any, ...]] = []

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        self.asked.append((name, *choices))
        return self.fixed.get(name, choices[-self.high])

    def suggest_float(self, name: str, low: float, high: float, *, step: Any, log: bool) -> float:
        self.asked.append((name, low, high, step, log))
        return high if self.high else low

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.asked.append((name, low, high, step, log))
        return high if self.high else low


def space(text: str) -> Space:
    from raystt.config.yaml_source import parse

    return Space.model_validate(parse(textwrap.dedent(text)).data)


def search(directory: Path, entries: str, head: str = HEAD) -> SearchConfig:
    path = directory / "s.yaml"
    path.write_text(head + "space:\n" + textwrap.indent(textwrap.dedent(entries), "  "), "utf-8")
    return load_search(path)


def problems(directory: Path, entries: str, head: str = HEAD) -> list[str]:
    """Load a bad search; return its problems without the directory."""
    with pytest.raises(ConfigError) as caught:
        search(directory, entries, head)
    return str(caught.value).replace(f"{directory}/", "").splitlines()


CONDITIONAL = """\
schedule.power: {float: [0.5, 3.0], log: true, when: {schedule.shape: polynomial}}
schedule.shape: {choice: [linear, polynomial, sigmoid]}
schedule.steepness: {float: [2, 9], when: {schedule.shape: [sigmoid]}}
training.steps: {int: [100, 300], step: 100, languages: [es]}
schedule.initial: {float: [0.5, 1.0], step: 0.1}
"""


def test_only_active_keys_are_asked_in_the_order_of_the_file() -> None:
    one = space(CONDITIONAL)
    trial = Recorder(schedule__shape="polynomial")
    # power comes first in the file, but cannot be asked before the shape that it depends on
    assert list(one.suggest(trial, "es")) == [
        "schedule.shape", "schedule.power", "training.steps", "schedule.initial"
    ]  # fmt: skip
    assert trial.asked == [
        ("schedule.shape", "linear", "polynomial", "sigmoid"),
        ("schedule.power", 0.5, 3.0, None, True),
        ("training.steps", 100, 300, 100, False),
        ("schedule.initial", 0.5, 1.0, 0.1, False),
    ]
    assert list(one.suggest(Recorder(), "fr")) == ["schedule.shape", "schedule.initial"]
    assert "schedule.steepness" in one.suggest(Recorder(high=True), "fr")


def test_a_condition_on_an_inactive_key_is_not_met() -> None:
    one = space(
        """\
        schedule.shape: {choice: [linear, polynomial], languages: [es]}
        schedule.power: {float: [1, 2], when: {schedule.shape: polynomial}}
        """
    )
    assert one.suggest(Recorder(high=True), "fr") == {}
    assert len(one.suggest(Recorder(high=True), "es")) == 2


def test_a_finite_space_can_be_gone_through() -> None:
    text = """\
        schedule.shape: {choice: [linear, polynomial]}
        schedule.power: {float: [1, 1.5], step: 0.2, when: {schedule.shape: polynomial}}
        training.steps: {int: [10, 29], step: 10, languages: [es]}
        """
    one = space(text)
    assert [list(point.values()) for point in one.points("es")] == [
        ["linear", 10], ["linear", 20],
        *(["polynomial", power, steps] for power in (1.0, 1.2, 1.4) for steps in (10, 20)),
    ]  # fmt: skip
    assert len(list(one.points("fr"))) == 4
    assert list(space(text.replace(", step: 0.2", "")).points("es")) == []
    # Neither is a long one taken all at once.
    assert next(space("training.steps: {int: [1, 9007199254740992]}").points("es"))


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler, optuna.samplers.TPESampler])
def test_it_drives_optuna_and_survives_pickling(tmp_path: Path, sampler: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = pickle.loads(pickle.dumps(search(tmp_path, CONDITIONAL)))

    def proposals() -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=sampler(seed=3), direction="maximize")
        found = []
        for _ in range(20):
            trial = study.ask()
            found.append(config.space.suggest(trial, "es"))
            study.tell(trial, found[-1]["schedule.initial"])
        return found

    first = proposals()
    assert first == proposals()
    for overrides in first:
        run = config.run_for("es", overrides)
        assert run.schedule.shape == overrides["schedule.shape"]
        assert run.schedule.initial == overrides["schedule.initial"]
        assert run.schedule.initial in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # exact decimals
        assert run.training.steps == overrides["training.steps"]
    assert {o["schedule.shape"] for o in first} == {"linear", "polynomial", "sigmoid"}


def test_a_run_is_base_plus_overrides(tmp_path: Path) -> None:
    config = search(tmp_path, CONDITIONAL)
    run = config.run_for("fr", {"schedule.shape": "polynomial", "training.dropout": 0.1})
    assert (run.name, run.seed, run.language) == ("s-fr", 1, "fr")
    # the staircase's own `step` is dropped, what both shapes have is kept
    assert run.schedule == Polynomial(initial=0.9, final=0.0, hold=0.0, end=0.8, power=2.0)
    assert run.training.dropout == 0.1
    assert config.base.training.dropout == 0.0
    assert config.run_for("fr", {}, name="best").name == "best"
    with pytest.raises(ValueError, match=r"trainig.steps: no such key.*`training.steps`"):
        config.run_for("fr", {"trainig.steps": 3})
    with pytest.raises(ValidationError):
        config.run_for("fr", {"schedule.initial": 1.5})


def test_references_are_complete_schedules_whatever_the_base(tmp_path: Path) -> None:
    head = HEAD + "  schedule: {shape: sigmoid, initial: 0.2, final: 0.1, hold: 0.5, end: 0.9}\n"
    config = search(tmp_path, CONDITIONAL, head)
    for name, schedule in REFERENCES.items():
        assert config.run_for("es", config.reference(name)).schedule == schedule
    assert config.run_for("es", config.reference("none")).schedule.ratio(0.0) == 0.0
    constant = config.run_for("es", {"schedule.shape": "constant"}).schedule
    assert (constant.ratio(0.0), constant.ratio(1.0)) == (0.2, 0.2)


def test_a_reference_can_have_another_schedule(tmp_path: Path) -> None:
    head = HEAD + "reference_schedules: {paper: {shape: staircase, end: 0.7}}\n"
    assert search(tmp_path, CONDITIONAL, head).reference("paper")["schedule.end"] == 0.7


def test_the_fingerprint_is_of_what_a_resume_must_not_change(tmp_path: Path) -> None:
    first = search(tmp_path, CONDITIONAL)
    assert first.fingerprint() == search(tmp_path, CONDITIONAL).fingerprint()
    more = HEAD.replace("trials: 6", "trials: 9").replace("name: s", "name: t")
    more += "  resources: {trainers: 1}\n  storage: there\n"
    assert search(tmp_path, CONDITIONAL, more).fingerprint() == first.fingerprint()
    changed = CONDITIONAL.replace("3.0", "3.5")
    assert search(tmp_path, changed).fingerprint() != first.fingerprint()
    seeded = HEAD + "seed: 2\n"
    assert search(tmp_path, CONDITIONAL, seeded).fingerprint() != first.fingerprint()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = search(tmp_path, CONDITIONAL)
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config), encoding="utf-8")
    assert load_any(copy) == config
    copy.write_text(to_yaml(config.run_for("es", {})), encoding="utf-8")
    assert load_any(copy) == config.run_for("es", {})


def test_searchable_keys_are_keys_of_a_run() -> None:
    keys = searchable()
    assert len(keys) == len(set(keys))
    assert {"schedule.shape", "schedule.power", "interleaving.side", "training.steps"} < set(keys)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ("schedule.shpae: {choice: [linear]}", "s.yaml:7: space.schedule.shpae: …`schedule.shape`"),
        (
            "model.lora: {choice: [true, false]}",
            "s.yaml:7: space.model.lora: model.* …`base`…schedule, interleaving, training",
        ),
        (
            "training.steps: {int: [100, 999999999999]}",
            "s.yaml:7: space.training.steps.int[1]: 999999999999 …over 10000000…1 to 10000000",
        ),
        ("schedule.initial: {flaot: [0, 1]}", "s.yaml:7: space.schedule.initial.flaot: …`float`"),
        (
            "schedule.initial: {}",
            "s.yaml:7: space.schedule.initial: …one kind…none…`choice`, `float`, `int`",
        ),
        (
            "schedule.initial: {float: [0, 1], choice: [1]}",
            "s.yaml:7: space.schedule.initial: …one kind…choice and float…`choice`, `float`, `int`",
        ),
        (
            "schedule.initial: {float: [0.9, 0.5]}",
            "s.yaml:7: space.schedule.initial.float: low 0.9 …high 0.5…[low, high]…`base`",
        ),
        (
            "schedule.initial: {float: [0.9]}",
            "s.yaml:7: space.schedule.initial.float[1]: …two values…[low, high]",
        ),
        (
            "schedule.initial: {float: [0.1, 0.2, 0.9]}",
            "s.yaml:7: space.schedule.initial.float: …two values…[low, high]",
        ),
        (
            "schedule.initial: {float: [0, 1], log: true}",
            "s.yaml:7: space.schedule.initial.float: …logarithm…low > 0…found 0…raise low",
        ),
        (
            "schedule.initial: {float: [0, 1], step: 2}",
            "s.yaml:7: space.schedule.initial.step: 2 …high - low = 1…smaller",
        ),
        (
            "schedule.initial: {float: [0.1, 1], step: 0.1, log: true}",
            "s.yaml:7: space.schedule.initial.step: `log` and `step` …keep one",
        ),
        (
            "training.steps: {int: [1, 9], step: 0.5}",
            "s.yaml:7: space.training.steps.step: 0.5 …whole number",
        ),
        (
            "schedule.shape: {choice: [linear, linear]}",
            "s.yaml:7: space.schedule.shape.choice[1]: 'linear' …twice…remove one",
        ),
        (
            "schedule.shape: {choice: []}",
            "s.yaml:7: space.schedule.shape.choice: …empty…at least one",
        ),
        (
            "schedule.shape: {choice: [linear], step: 1}",
            "s.yaml:7: space.schedule.shape.step: …choice…remove",
        ),
        (
            "schedule.initial: {float: [0.5, 1], languages: [se]}",
            "s.yaml:7: space.schedule.initial.languages[0]: …'se'…es, fr",
        ),
        # values that the run would refuse
        (
            "schedule.shape:\n  choice:\n    - linear\n    - liner",
            "s.yaml:7: space.schedule.shape: 'liner' …schedule.shape liner…`linear`",
        ),
        (
            "schedule.initial: {choice: [0.5, 1.5]}",
            "s.yaml:7: space.schedule.initial: 1.5 …over 1…schedule.initial 1.5…0 to 1",
        ),
        (
            "training.batch_utterances: {float: [8, 16]}",
            "s.yaml:7: space.training.batch_utterances.float[0]: …whole number…8.0…such as 16",
        ),
        (
            "training.dropout: {float: [0, 1]}",
            "s.yaml:7: space.training.dropout.float[1]: 1.0 …< 1",
        ),
        (
            "interleaving.side: {choice: [both, none]}",
            "s.yaml:7: space.interleaving.side.choice[1]: …'none'…both, source, target",
        ),
        # combinations that the run would refuse
        (
            "schedule.hold: {float: [0, 0.6]}\nschedule.end: {float: [0.5, 1]}",
            "s.yaml:8: space.schedule.end: 0.5 …hold (0.6)…schedule.hold 0.6, schedule.end 0.5…"
            "raise end…lower hold",
        ),
        (
            "schedule.hold: {float: [0, 0.9]}",
            "s.yaml:7: space.schedule.hold: 0.8 …hold (0.9)…schedule.hold 0.9…raise end…lower hold",
        ),
        (
            "schedule.initial: {float: [0.1, 1]}\nschedule.final: {float: [0, 0.2]}",
            "s.yaml:8: space.schedule.final: 0.2 …initial (0.1)…"
            "schedule.initial 0.1, schedule.final 0.2…lower final…raise initial",
        ),
        (
            "schedule.shape: {choice: [linear, polynomial]}\nschedule.power: {float: [1, 2]}",
            "s.yaml:8: space.schedule.power: …linear…schedule.shape linear, schedule.power 1.0…"
            "`when: {schedule.shape: polynomial}`",
        ),
        # conditions
        (
            "schedule.power: {float: [1, 2], when: {schedule.shape: polynomial}}",
            "s.yaml:7: space.schedule.power.when.schedule.shape: 'schedule.shape' …not searched…"
            "add it…remove",
        ),
        (
            "interleaving.rule: {choice: [poisson, independent]}\n"
            "training.steps: {int: [1, 2], when: {interleaving.rul: poisson}}",
            "s.yaml:8: space.training.steps.when.interleaving.rul: …not searched…"
            "`interleaving.rule`",
        ),
        (
            "schedule.shape: {choice: [linear]}\n"
            "schedule.power: {float: [1, 2], when: {schedule.shape: polynomial}}",
            "s.yaml:8: space.schedule.power.when.schedule.shape: …'polynomial'…choose from: linear",
        ),
        (
            "schedule.initial: {float: [0.5, 1]}\n"
            "schedule.end: {float: [0.5, 1], when: {schedule.initial: 0.5}}",
            "s.yaml:8: space.schedule.end.when.schedule.initial: …float…choice…whole number",
        ),
        (
            "training.steps: {int: [2, 8], step: 2}\n"
            "schedule.end: {float: [0.5, 1], when: {training.steps: 5}}",
            "s.yaml:8: space.schedule.end.when.training.steps: …value 5…2, 8",
        ),
        (
            "interleaving.side: {choice: [both], when: {interleaving.rule: poisson}}\n"
            "interleaving.rule: {choice: [poisson], when: {interleaving.side: both}}",
            "s.yaml:7: space.interleaving.side.when: …circle…"
            "interleaving.side -> interleaving.rule -> interleaving.side…remove one",
        ),
    ],
)
def test_a_bad_space_is_refused_early(tmp_path: Path, entries: str, told: str) -> None:
    (found,) = problems(tmp_path, entries)
    assert tells(found, told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("languages: [es, fr]", "languages: [es, de]"),
            "s.yaml:2: languages[1]: …'de'…es, fr…add it to the corpus",
        ),
        (("languages: [es, fr]", "languages: []"), "s.yaml:2: languages: …empty…at least one"),
        (
            ("trials: 6", "trials: 2"),
            "s.yaml:3: trials: 2 …4 references…at least 4…fewer references",
        ),
        (
            ("trials: 6", "trials: 1000000000"),
            "s.yaml:3: trials: 1000000000 …over 100000…1 to 100000",
        ),
        (
            ("trials: 6", "trials: 6\nablations: {a: {set: {interleaving.side: [both, source]}}}"),
            "s.yaml:4: ablations.a.set.interleaving.side: …plain value…list…"
            "number, a word, true or false",
        ),
        (
            ("trials: 6", "trials: 6\nreferences: [none, papper]"),
            "s.yaml:4: references[1]: …'papper'…`paper`",
        ),
        (
            ("trials: 6", "trials: 6\nreferences: [none, none]"),
            "s.yaml:4: references[1]: 'none' …twice…remove one",
        ),
        (
            ("trials: 6", "trials: 6\nreference_schedules: {paper: {shape: linear, end: 2}}"),
            "s.yaml:4: reference_schedules.paper.end: 2 …over 1…0 to 1",
        ),
        (
            ("trials: 6", "trials: 6\nfidelity: {segments: 400}"),
            "s.yaml:4: fidelity.segments: …350 steps…fewer segments",
        ),
        (
            ("trials: 6", "trials: 6\nobjective: text_bleu"),
            "s.yaml:4: objective: text_bleu …interleaving.format…direct…chain_of_thought…"
            "asr_bleu or chrf",
        ),
        (
            ("trials: 6", "trials: 6\nsampler: bohb"),
            "s.yaml:4: sampler: …'bohb'…auto, tpe, gp, cmaes, nsgaii, random, sobol",
        ),
        (
            ("base:", "base:\n  name: x"),
            "s.yaml:5: base.name: unknown…"
            "corpus, model, interleaving, schedule, training, evaluation, resources, storage",
        ),
    ],
)
def test_a_bad_search_is_refused(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    (found,) = problems(tmp_path, "schedule.end: {float: [0.5, 1]}", HEAD.replace(*change))
    assert tells(found, told)


def test_a_wrong_type_hides_no_other_mistake(tmp_path: Path) -> None:
    head = HEAD.replace("[es, fr]", "[es, de]").replace("trials: 6", "trials: 6\nseed: one")
    head += "  training: {steps: many}\n"
    entries = "schedule.end: {float: [0.5]}\ntrainig.steps: {int: [1, 2]}\n"
    assert [line.split(": ")[:2] for line in problems(tmp_path, entries, head)] == [
        ["s.yaml:2", "languages[1]"],
        ["s.yaml:4", "seed"],
        ["s.yaml:7", "base.training.steps"],
        ["s.yaml:9", "space.schedule.end.float[1]"],
        ["s.yaml:10", "space.trainig.steps"],
    ]


@pytest.mark.parametrize(
    ("head", "place"),
    [
        ("references: [papper]\nreference_schedules: {paper: {shape: linear}}\n", "references[0]"),
        ("fidelity: {segments: 400}\n  training: {steps: many}\n", "base.training.steps"),
        ("ablations: {a: {of: papper, set: {schedule.final: 0.5}}}\n", "ablations.a.of"),
        ("reference_schedules: {constant: {shape: constan, initial: 1}}\n", "reference_schedules"),
    ],
)
def test_what_follows_from_a_mistake_is_not_told(tmp_path: Path, head: str, place: str) -> None:
    top, _, below = head.partition("  ")
    lines = HEAD.replace("base:", top + "base:") + (f"  {below}" if below else "")
    (found,) = problems(tmp_path, "schedule.end: {float: [0.5, 1]}", lines)
    assert found.split(": ")[1].startswith(place)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("name: a/b", "name"),
        ("", "name"),
        ("name: s\ntrials: many", "trials"),
        ("name: s", "trials"),
    ],
)
def test_a_required_key_hides_no_other_mistake(tmp_path: Path, line: str, key: str) -> None:
    head = HEAD.replace("name: s\n", line + "\n").replace("[es, fr]", "[es, se]")
    head = head.replace("trials: 6\n", "" if key == "trials" else "trials: 6\n")
    found = problems(tmp_path, "schedule.initail: {float: [0.5, 1.0]}", head)
    assert sorted(line.split(": ")[1] for line in found) == sorted(
        [key, "languages[1]", "space.schedule.initail"]
    )


def test_a_search_needs_something_to_propose(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "space: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r":6: space: it is empty, there is nothing to propose"):
        load_search(path)
    path.write_text(HEAD.replace("6", "4") + "space: {}\n", encoding="utf-8")
    assert load_search(path).space.root == {}


ABLATIONS = """\
references: [paper]
ablations:
  source_only: {languages: [fr], set: {interleaving.side: source}}
  slow: {of: constant, set: {schedule.shape: linear, schedule.final: 0.1, training.steps: 500}}
"""


def test_an_ablation_is_a_reference_with_changes(tmp_path: Path) -> None:
    config = search(tmp_path, "schedule.end: {float: [0.5, 1]}", HEAD + ABLATIONS)
    assert config.fixed("es") == ("paper", "slow")
    assert config.fixed("fr") == config.fixed_names == ("paper", "source_only", "slow")
    paper = config.run_for("fr", config.reference("paper"))
    source = config.run_for("fr", config.reference("source_only"))
    assert source.schedule == paper.schedule == REFERENCES["paper"]
    assert source.interleaving.side == "source" and paper.interleaving.side == "both"
    slow = config.run_for("es", config.reference("slow"))
    # a constant has no end of its own: the shape's usual one is taken
    assert slow.schedule == Linear(initial=0.3, final=0.1, hold=0.0, end=0.8)
    assert slow.training.steps == 500
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_search(path) == config


def test_trials_are_the_fixed_runs_where_nothing_is_proposed(tmp_path: Path) -> None:
    head = HEAD + ABLATIONS
    both = search(tmp_path, "schedule.end: {float: [0.5, 1]}", head)
    assert [both.trials_of(name) for name in both.languages] == [6, 6]
    tied = search(tmp_path, "schedule.end: {float: [0.5, 1], languages: [es]}", head)
    assert [tied.trials_of(name) for name in tied.languages] == [6, 3]
    path = tmp_path / "s.yaml"
    for trials in ("null", "3"):
        path.write_text(head.replace("trials: 6", f"trials: {trials}") + "space: {}\n", "utf-8")
        fixed = load_search(path)
        assert [fixed.trials_of(name) for name in fixed.languages] == [2, 3]
        assert fixed.total_trials == 5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("trials: 6", "trials: 2"),
            "s.yaml:3: trials: 2 …3 references and ablations of fr…at least 3…fewer",
        ),
        (
            ("trials: 6", "trials: null"),
            "s.yaml:3: trials: null …`space` has keys…number…`space: {}`",
        ),
        (
            ("languages: [fr]", "languages: [se]"),
            "s.yaml:8: ablations.source_only.languages[0]: …'se'…es, fr",
        ),
        (
            ("interleaving.side: source", "interleaving.sied: source"),
            "s.yaml:8: ablations.source_only.set.interleaving.sied: …`interleaving.side`",
        ),
        (
            ("interleaving.side: source", "interleaving.side: sauce"),
            "s.yaml:8: ablations.source_only.set.interleaving.side: …'sauce'…`source`",
        ),
        (
            ("schedule.final: 0.1", "schedule.final: 0.9"),
            "s.yaml:9: ablations.slow.set.schedule.final: 0.9 …initial (0.3)…lower final…"
            "raise initial",
        ),
        (("of: constant", "of: papper"), "s.yaml:9: ablations.slow.of: …'papper'…`paper`"),
        (
            ("source_only: {", "best: {"),
            "s.yaml:8: ablations.best: 'best' …letters, digits and '_'…"
            "none, paper, constant, thirds, best",
        ),
        (
            ("{interleaving.side: source}", "{}"),
            "s.yaml:8: ablations.source_only.set: …empty…at least one",
        ),
    ],
)
def test_a_bad_ablation_is_refused(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    head = HEAD + ABLATIONS
    assert change[0] in head
    (found,) = problems(tmp_path, "schedule.end: {float: [0.5, 1]}", head.replace(*change))
    assert tells(found, told)


def test_a_language_without_a_run_is_refused(tmp_path: Path) -> None:
    head = HEAD.replace("trials: 6", "trials: null") + ABLATIONS.replace("[paper]", "[]")
    path = tmp_path / "s.yaml"
    path.write_text(head.replace("of: constant,", "languages: [fr],") + "space: {}\n", "utf-8")
    with pytest.raises(ConfigError, match=r":2: languages\[0\]: nothing is run for 'es'"):
        load_search(path)


def test_every_shape_can_be_searched(tmp_path: Path) -> None:
    entries = (
        f"schedule.shape: {{choice: [{', '.join(SHAPES)}]}}\nschedule.initial: {{float: [0, 1]}}"
    )
    config = search(tmp_path, entries)
    for shape in SHAPES:
        run = config.run_for("es", {"schedule.shape": shape, "schedule.initial": 0.5})
        assert run.schedule.ratio(0.0) == 0.5


def test_trials_share_an_interleaving_or_differ_in_it(tmp_path: Path) -> None:
    entries = "schedule.initial: {float: [0, 1]}\n"
    config = search(tmp_path, entries)
    assert config.interleaving == config.base.interleaving
    entries += "interleaving.side: {choice: [target, both]}"
    assert search(tmp_path, entries).interleaving is None


APART = """\
schedule.shape: {choice: [linear, apart]}
schedule.source.end: {float: [0.3, 1.0], when: {schedule.shape: apart}}
schedule.target.shape: {choice: [knots], when: {schedule.shape: apart}}
schedule.target.initial: {float: [0.3, 1.0], when: {schedule.shape: apart}}
"""


def test_source_and_target_are_searched_apart(tmp_path: Path) -> None:
    config = search(tmp_path, APART)
    chosen = config.space.suggest(Recorder(high=True), "es")
    source, target = config.run_for("es", chosen).schedule.sides()
    assert source == Staircase(end=1.0)  # of `base`, but for what is searched
    assert target == Knots(initial=1.0)
    both = config.run_for("es", config.space.suggest(Recorder(), "es")).schedule
    assert both == Linear()
    # A fixed run is itself whatever is searched, and may be apart too.
    assert config.run_for("es", config.reference("paper")).schedule == Staircase()
    ablated = "ablations: {late: {set: {schedule.shape: apart, schedule.target.end: 0.9}}}\n"
    late = search(tmp_path, APART, HEAD.replace("base:", ablated + "base:")).reference("late")
    assert late["schedule.source.end"] == 0.8 and late["schedule.target.end"] == 0.9
    assert config.run_for("es", late).schedule.sides() == (Staircase(), Staircase(end=0.9))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "schedule.sources.end: {float: [0.5, 0.9]}",
            "s.yaml:11: space.schedule.sources.end: …no such key…`schedule.source.end`",
        ),
        (
            "schedule.target.power: {float: [1, 2], when: {schedule.shape: apart}}",
            "s.yaml:11: space.schedule.target.power: …schedule.target.shape be polynomial",
        ),
        (
            "interleaving.side: {choice: [both, source]}",
            "s.yaml:11: space.interleaving.side.choice[1]: 'source'…schedule.shape is apart…"
            "set both…another shape",
        ),
    ],
)
def test_what_does_not_go_with_sides_apart_is_refused(
    tmp_path: Path, entry: str, message: str
) -> None:
    (problem,) = problems(tmp_path, APART + entry)
    assert tells(problem, message)
    search(tmp_path, APART + "interleaving.side: {choice: [both, source], "
           "when: {schedule.shape: linear}}")  # fmt: skip
