"""The rows of varied traffic count what they say they count. No time is looked at."""

from __future__ import annotations

import dataclasses

import pytest

from otel_bridge.redaction.redactor import Redactor
from tests.bench import varied
from tests.bench.naive_stack import NaiveStack
from tests.bench.rows import Row
from tests.bench.stages import RedactorCall, Stages, noting_redaction


@pytest.mark.parametrize("kind", varied.KINDS.values(), ids=varied.KINDS)
def test_both_sides_make_a_span_of_every_exchange(kind: varied.Kind) -> None:
    (traffic,) = varied.make_slices(kind, slices=1)
    stages, naive = Stages(), NaiveStack()
    times = stages.run(traffic.records)
    traffic.run_naive_stack(naive)
    assert (stages.counters.built, stages.incomplete) == (traffic.exchanges, 0)
    assert naive.spans == traffic.exchanges
    assert times.total == times.decode + times.parse + times.span + times.encode


def test_a_round_that_lost_an_exchange_has_no_figures() -> None:
    measurement = varied.Measurement(varied.KINDS["gets"], slices=1)
    measurement.begin_round()
    measurement.slices[0] = dataclasses.replace(
        measurement.slices[0], records=measurement.slices[0].records[:-40]
    )
    measurement.measure_slice(0, with_naive_stack=True)
    with pytest.raises(RuntimeError, match=r"of 300 exchanges 2\d\d became spans"):
        measurement.end_round()


def test_redaction_is_noted_at_its_outermost_calls_only() -> None:
    functions = dict(vars(Redactor))
    redactor = Redactor()
    calls: list[RedactorCall] = []
    with noting_redaction(calls):
        redactor.path("/orders/7")  # calls `header`
        redactor.text('{"password": "x"}', "application/json", truncated=False)
    assert [(function.__name__, arguments[1:]) for function, arguments, _ in calls] == [
        ("path", ("/orders/7",)),
        ("text", ('{"password": "x"}', "application/json")),
    ]
    assert [function(*arguments, **named) for function, arguments, named in calls] == [
        ("/orders/7", 0),
        ('{"password": "REDACTED"}', 1),
    ]
    assert dict(vars(Redactor)) == functions


def test_a_bound_to_come_fails_nothing() -> None:
    row = Row("agent over naive stack", "ratio", None, 0.4, None, bound_to_come=0.1)
    assert row.holds is None
