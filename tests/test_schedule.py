"""The contract of a schedule's shape, over every shape that there is, and what is special.

A new shape is tested by being in `SHAPES`. If it has fields of its own, give their values in `OWN`.
"""

from __future__ import annotations

import pickle
import typing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raystt.schedule import (
    SHAPES,
    AnySchedule,
    Apart,
    Constant,
    Knots,
    Linear,
    OneSchedule,
    from_dict,
)

unit = st.floats(0.0, 1.0)

OWN: dict[str, dict[str, st.SearchStrategy[float]]] = {
    "knots": {
        "first_at": st.floats(0.01, 0.99),
        "first_left": unit,
        "second_at": st.floats(0.01, 0.99),
        "second_left": unit,
    },
    "exponential": {"rate": st.floats(0.1, 50.0)},
    "polynomial": {"power": st.floats(0.1, 10.0)},
    "sigmoid": {"steepness": st.floats(0.1, 100.0)},
    "staircase": {"step": st.floats(0.001, 1.0)},
}

# A busy machine must not fail a test.
relaxed = settings(deadline=None, max_examples=50)
every_shape = pytest.mark.parametrize("shape", sorted(SHAPES))


@st.composite
def descriptions(draw: st.DrawFn, shape: str) -> dict[str, Any]:
    """Draw the config of a schedule; ends that are zero or one are drawn often."""
    ratios = sorted((draw(unit), draw(unit | st.just(0.0))))
    hold, end = sorted((draw(unit | st.just(0.0)), draw(unit | st.just(1.0))))
    if hold == end:
        hold, end = 0.0, 1.0
    own = {name: draw(values) for name, values in OWN.get(shape, {}).items()}
    return {
        "shape": shape,
        "initial": ratios[1],
        "final": ratios[0],
        "hold": hold,
        "end": end,
        **own,
    }


def refused(field: str, **values: Any) -> None:
    """See that a schedule is refused for one field alone."""
    with pytest.raises(ValidationError) as caught:
        from_dict(values)
    assert [error["loc"][-1] for error in caught.value.errors()] == [field]


@every_shape
@relaxed
@given(data=st.data())
def test_stays_between_final_and_initial_and_never_rises(shape: str, data: st.DataObject) -> None:
    schedule = from_dict(data.draw(descriptions(shape)))
    moments = sorted(data.draw(st.lists(unit, min_size=2, max_size=30)))
    ratios = [schedule.ratio(progress) for progress in moments]
    assert all(0.0 <= schedule.final <= ratio <= schedule.initial <= 1.0 for ratio in ratios)
    assert all(early >= late for early, late in zip(ratios, ratios[1:], strict=False))


@every_shape
@relaxed
@given(data=st.data())
def test_never_rises_between_neighbouring_steps(shape: str, data: st.DataObject) -> None:
    schedule = from_dict(data.draw(descriptions(shape)))
    assert np.all(np.diff(schedule.values(0, 400, 400)) <= 0.0)


@every_shape
@relaxed
@given(data=st.data())
def test_is_exactly_initial_up_to_hold_and_final_from_end(shape: str, data: st.DataObject) -> None:
    schedule = from_dict(data.draw(descriptions(shape)))
    before = data.draw(st.floats(0.0, schedule.hold))
    after = data.draw(st.floats(schedule.end, 1.0))
    assert schedule.ratio(before) == schedule.ratio(0.0) == schedule.initial
    assert schedule.ratio(after) == schedule.ratio(1.0) == schedule.final


@every_shape
@relaxed
@given(data=st.data())
def test_zero_is_exactly_zero(shape: str, data: st.DataObject) -> None:
    described = data.draw(descriptions(shape)) | {"final": 0.0}
    if shape == "constant":
        described["initial"] = 0.0
    schedule = from_dict(described)
    zeros = schedule.values(90, 100, 100)[schedule.end <= np.arange(90, 100) / 100]
    assert not np.any(zeros)
    assert str(schedule.ratio(1.0)) == "0.0"  # and not -0.0


@every_shape
@relaxed
@given(data=st.data())
def test_values_are_the_ratios_of_the_steps(shape: str, data: st.DataObject) -> None:
    schedule = from_dict(data.draw(descriptions(shape)))
    horizon = data.draw(st.integers(1, 120))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, horizon)] * 2)))
    values = schedule.values(start, stop, horizon)
    assert values.dtype == np.float64
    assert values.tolist() == [schedule.ratio(step / horizon) for step in range(start, stop)]
    assert np.array_equal(values, schedule.values(0, horizon, horizon)[start:stop])


@every_shape
@relaxed
@given(data=st.data())
def test_is_a_value(shape: str, data: st.DataObject) -> None:
    described = data.draw(descriptions(shape))
    schedule, again = from_dict(described), from_dict(dict(described))
    for other in (again, from_dict(schedule.model_dump()), pickle.loads(pickle.dumps(schedule))):
        assert other == schedule
        assert hash(other) == hash(schedule)
        assert type(other) is type(schedule)
        assert np.array_equal(other.values(0, 50, 50), schedule.values(0, 50, 50))
    assert schedule.model_dump()["shape"] == shape
    with pytest.raises(ValidationError, match="frozen"):
        schedule.initial = 0.5  # type: ignore[misc]


@every_shape
@relaxed
@given(data=st.data())
def test_has_a_label_of_one_line(shape: str, data: st.DataObject) -> None:
    label = from_dict(data.draw(descriptions(shape))).label()
    assert shape in label and len(label) < 60 and label.isprintable()


@every_shape
@pytest.mark.parametrize("field", ["initial", "final", "hold", "end"])
@pytest.mark.parametrize(
    "value", [-0.1, 1.01, float("nan"), float("inf"), "0.5", None, True, [0.5]], ids=repr
)
def test_refuses_what_is_no_fraction(shape: str, field: str, value: object) -> None:
    refused(field, shape=shape, **{field: value})


@pytest.mark.parametrize("shape,field", [(s, f) for s in sorted(OWN) for f in sorted(OWN[s])])
@pytest.mark.parametrize("value", [-1.0, 1e6, float("nan"), "a"], ids=repr)
def test_refuses_values_of_own_fields(shape: str, field: str, value: object) -> None:
    refused(field, shape=shape, **{field: value})


@every_shape
@pytest.mark.parametrize(
    "values,message",
    [
        ({"hold": 0.8, "end": 0.5}, "0.5 is not after hold (0.8); raise end"),
        ({"hold": 0.8, "end": 0.8}, "lower hold"),
        ({"initial": 0.2, "final": 0.3}, "raise initial"),
        ({"initail": 0.2}, "initail"),
    ],
)
def test_refuses_and_says_what_to_do(shape: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_dict({"shape": shape, **values})
    assert message in str(caught.value)


@every_shape
def test_refuses_moments_outside_the_horizon(shape: str) -> None:
    schedule = from_dict({"shape": shape})
    for progress in (-1e-9, 1.0 + 1e-9, float("nan")):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            schedule.ratio(progress)
    for steps in ((-1, 5, 10), (5, 4, 10), (0, 11, 10)):
        with pytest.raises(ValueError, match="start_step <= stop_step <= horizon"):
            schedule.values(*steps)
    assert schedule.values(3, 3, 10).shape == (0,)


@pytest.mark.parametrize("values", [{}, {"shape": "linaer"}, {"shape": None}, {"shape": [1]}])
def test_refuses_shapes(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="shape"):
        from_dict(values)


def test_shapes_go_by_their_names() -> None:
    named = "constant linear cosine exponential polynomial sigmoid staircase knots"
    assert named.split() == list(SHAPES)
    for name, shape in SHAPES.items():
        assert shape().shape == name
        assert shape() == from_dict({"shape": name})
    with pytest.raises(ValidationError, match="'linear'"):
        Linear(shape="cosine")  # type: ignore[arg-type]


def test_an_integer_is_the_same_schedule_as_a_float() -> None:
    schedule = from_dict({"shape": "linear", "initial": 1, "final": 0, "hold": 0, "end": 1})
    assert schedule == from_dict({"shape": "linear", "initial": 1.0, "final": -0.0, "end": 1.0})
    assert repr(schedule.model_dump()["initial"]) == "1.0"
    assert repr(schedule.model_dump()["final"]) == "0.0"
    assert schedule.model_dump_json() == Linear(initial=1.0, end=np.float64(1)).model_dump_json()


def test_the_papers_staircase() -> None:
    """0.9, down by 0.1 every 300 steps, pure speech from step 2700 (arXiv 2506.10299)."""
    schedule = from_dict({"shape": "staircase", "initial": 0.9, "final": 0.0, "end": 0.8})
    horizon = 3375  # of which 2700 is 80 %
    expected = np.repeat([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], 300).tolist()
    assert schedule.values(0, horizon, horizon).tolist() == expected + [0.0] * 675


@pytest.mark.parametrize("horizon", [9, 90, 350, 700, 1125, 2700, 9999, 100_000])
@pytest.mark.parametrize("hold,end", [(0.0, 0.8), (0.0, 1.0), (0.1, 0.7), (1 / 3, 0.9)])
def test_a_level_starts_with_its_interval(horizon: int, hold: float, end: float) -> None:
    schedule = from_dict({"shape": "staircase", "hold": hold, "end": end})
    values = schedule.values(0, horizon, horizon)
    for k in range(1, 10):
        border = (hold + k * (end - hold) / 9) * horizon
        first = int(np.ceil(border - 1e-6))
        if first < horizon:
            assert values[first] <= round(0.9 - 0.1 * k, 12)
        if first > 0:
            assert values[first - 1] >= round(1.0 - 0.1 * k, 12)


def test_a_step_that_does_not_divide_the_way_ends_at_final() -> None:
    schedule = from_dict({"shape": "staircase", "initial": 0.85, "final": 0.2, "step": 0.3})
    assert list(dict.fromkeys(schedule.values(0, 100, 100).tolist())) == [0.85, 0.55, 0.2]
    one = from_dict({"shape": "staircase", "initial": 0.3, "final": 0.2, "step": 0.5})
    assert list(dict.fromkeys(one.values(0, 100, 100).tolist())) == [0.3, 0.2]


def test_known_values() -> None:
    def halfway(shape: str, **own: float) -> float:
        return from_dict({"shape": shape, "initial": 0.8, "end": 1.0, **own}).ratio(0.5)

    assert halfway("constant") == 0.8
    assert halfway("linear") == halfway("cosine") == halfway("sigmoid") == 0.4
    assert halfway("polynomial", power=1) == 0.4
    assert halfway("polynomial", power=2) == 0.2
    assert halfway("exponential", rate=5) == pytest.approx(
        0.8 * (np.exp(-2.5) - np.exp(-5)) / (1 - np.exp(-5)), abs=1e-11
    )
    sigmoid = from_dict({"shape": "sigmoid", "initial": 1.0, "end": 1.0, "steepness": 10})
    logistic = 1 / (1 + np.exp(10 * (np.array([0.25, 0.0, 1.0]) - 0.5)))
    assert sigmoid.ratio(0.25) == pytest.approx(
        (logistic[0] - logistic[2]) / (logistic[1] - logistic[2]), abs=1e-11
    )


def test_constants_with_one_ratio_are_equal() -> None:
    plain = from_dict({"shape": "constant", "initial": 0.3})
    assert plain == from_dict({"shape": "constant", "initial": 0.3, "hold": 0.2, "end": 0.4})
    assert plain == Constant(initial=0.3) and hash(plain) == hash(Constant(initial=0.3))
    assert plain.ratio(1.0) == plain.final == 0.3


@pytest.mark.parametrize(
    "values,label",
    [
        ({"shape": "constant", "initial": 0.3}, "constant 0.3"),
        ({"shape": "linear"}, "linear 0.9→0 by 0.8"),
        ({"shape": "cosine", "hold": 0.125}, "cosine 0.9→0 after 0.125 by 0.8"),
        ({"shape": "staircase"}, "staircase 0.9→0 by 0.8, step 0.1"),
        ({"shape": "linear", "initial": 0.71234567, "end": 1}, "linear 0.712→0 by 1"),
    ],
)
def test_labels(values: dict[str, Any], label: str) -> None:
    assert from_dict(values).label() == label


def test_knots_are_shares_of_what_is_left() -> None:
    schedule = Knots(
        initial=0.9, final=0.1, hold=0.2, end=0.7, first_at=0.4, first_left=0.5, second_at=0.5,
        second_left=0.25,
    )  # fmt: skip
    expected = np.array([(0.2, 0.9), (0.4, 0.5), (0.55, 0.2), (0.7, 0.1)])
    assert np.array(schedule.points()) == pytest.approx(expected)
    for (a, ratio_a), (b, ratio_b) in zip(
        schedule.points()[:-1], schedule.points()[1:], strict=True
    ):
        assert schedule.ratio(b) == pytest.approx(ratio_b)
        assert schedule.ratio((a + b) / 2) == pytest.approx((ratio_a + ratio_b) / 2)
    assert schedule.label() == "knots 0.9 after 0.2 0.5@0.4 0.2@0.55 0.1@0.7"


def test_knots_are_linear_unless_they_are_moved() -> None:
    moments = np.linspace(0.0, 1.0, 101)
    plain, knots = Linear(initial=0.8, end=0.6), Knots(initial=0.8, end=0.6)
    assert [knots.ratio(x) for x in moments] == pytest.approx([plain.ratio(x) for x in moments])


@pytest.mark.parametrize("target", ["cosine", "sigmoid", "exponential", "polynomial"])
def test_knots_come_near_the_other_shapes(target: str) -> None:
    moments = np.linspace(0.0, 1.0, 101)
    wanted = np.array([from_dict({"shape": target}).ratio(x) for x in moments])
    best = min(
        float(np.abs([Knots(first_at=a, first_left=b, second_at=c, second_left=d).ratio(x)
                      for x in moments] - wanted).mean())
        for a in (0.15, 0.3, 0.45) for b in (0.9, 0.65, 0.4) for c in (0.3, 0.6)
        for d in (0.1, 0.25, 0.5)
    )  # fmt: skip
    assert best < 0.04


@relaxed
@given(data=st.data(), shapes=st.tuples(*[st.sampled_from(sorted(SHAPES))] * 2))
def test_sides_apart_have_the_mean_of_both(data: st.DataObject, shapes: tuple[str, str]) -> None:
    source, target = (data.draw(descriptions(shape)) for shape in shapes)
    schedule = from_dict({"shape": "apart", "source": source, "target": target})
    assert schedule.sides() == (from_dict(source), from_dict(target))
    values = [side.values(3, 40, 50) for side in schedule.sides()]
    assert np.array_equal(schedule.values(3, 40, 50), np.mean(values, axis=0))
    assert schedule.ratio(3 / 50) == schedule.values(3, 40, 50)[0]
    assert from_dict(schedule.model_dump()) == schedule == pickle.loads(pickle.dumps(schedule))


def test_one_schedule_is_that_of_both_sides() -> None:
    assert Linear().sides() == (Linear(), Linear())
    assert Apart(source=Linear(), target=Constant(initial=0.0)).label() == (
        "linear 0.9→0 by 0.8 / constant 0"
    )
    with pytest.raises(ValidationError, match="apart"):
        from_dict({"shape": "apart", "source": {"shape": "apart"}})


def test_a_side_of_its_own_may_have_every_shape() -> None:
    whole, side = (
        typing.get_args(typing.get_args(union)[0]) for union in (AnySchedule, OneSchedule)
    )
    assert set(whole) == {*side, Apart}
