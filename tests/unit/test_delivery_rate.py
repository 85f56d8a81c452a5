"""The rate of a lane as pure numbers: never one too many in any window, nearly all that is allowed."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.units import parse_rate
from relay.delivery.rate import Bucket, Rate

RATES = (Rate(1, 1.0), Rate(10, 1.0), Rate(500, 1.0), Rate(1, 60.0), Rate(30, 60.0), Rate(600, 60.0),
         Rate(7, 3600.0), Rate(10_000, 86400.0))  # fmt: skip


@pytest.mark.parametrize(
    ("said", "interval"), [("10/s", 0.101), ("30/min", 2.02), ("600/min", 0.101), ("1/h", 3636.0)]
)
def test_messages_are_evenly_spaced(said: str, interval: float) -> None:
    rate = Rate(*parse_rate(said))
    assert str(rate) == said
    bucket = Bucket(rate)
    now = 1000.0
    assert bucket.wait(now) == 0.0
    for _ in range(5):
        bucket.charge(now)
        assert bucket.wait(now) == pytest.approx(interval, abs=rate.slack * 1.01)
        now += bucket.wait(now)


def test_a_pause_earns_one_message_not_many() -> None:
    bucket = Bucket(Rate(30, 60.0))
    bucket.charge(0.0)
    assert bucket.wait(3600.0) == 0.0
    bucket.charge(3600.0)
    assert bucket.wait(3600.0) == pytest.approx(2.02, abs=0.021)


@given(
    rate=st.sampled_from(RATES),
    steps=st.lists(
        st.tuples(st.floats(0.0, 3.0), st.sampled_from((0.0, 0.0, 0.0, 0.3, 1.0, 40.0)), st.integers(1, 3)),
        min_size=30,
        max_size=120,
    ),
)
def test_no_window_ever_has_one_too_many(rate: Rate, steps: list[tuple[float, float, int]]) -> None:
    """Whatever comes when: late timers (in slacks), pauses (in intervals), several messages at once."""
    bucket, now, sent = Bucket(rate), 1000.0, list[float]()
    for late, pause, messages in steps:
        messages = min(messages, rate.count)
        now += bucket.wait(now, messages) + late * rate.slack + pause * rate.interval
        bucket.charge(now, messages)
        sent += [now] * messages
    for place, begin in enumerate(sent):
        assert bisect_left(sent, begin + rate.period) - place <= rate.count


@given(rate=st.sampled_from(RATES), late=st.lists(st.floats(0.0, 0.9), min_size=50, max_size=200))
def test_a_saturated_rate_carries_nearly_all_of_it(rate: Rate, late: list[float]) -> None:
    """Within 2 % of the rate, though every timer is late by up to 90 % of what can be made up for."""
    bucket, begin = Bucket(rate), 1000.0
    now = begin
    for each in late:
        now += bucket.wait(now) + each * rate.slack
        bucket.charge(now)
    assert (now - begin) * rate.count / rate.period <= (len(late) - 1) * 1.02 + 1


def test_how_many_may_go_soon() -> None:
    bucket = Bucket(Rate(600, 60.0))
    assert bucket.ahead(0.0, 2.0) == 20
    for _ in range(5):
        bucket.charge(0.0)
    assert bucket.ahead(0.05, 2.0) == 16
    slow = Bucket(Rate(5, 60.0))
    assert slow.ahead(0.0, 2.0) == 1
    slow.charge(0.0)
    assert slow.ahead(0.0, 2.0) == 0
    assert slow.ahead(10.2, 2.0) == 1


def test_what_went_unasked_is_owed() -> None:
    bucket = Bucket(Rate(30, 60.0))
    bucket.charge(0.0)
    bucket.owe(2)
    assert bucket.wait(0.0) == pytest.approx(3 * 2.02, abs=0.021)


def test_another_rate_counts_from_the_last_message() -> None:
    bucket = Bucket(Rate(1, 3600.0))
    bucket.charge(1000.0)
    bucket.renew(Rate(30, 60.0))
    assert bucket.wait(1000.0) == pytest.approx(2.02, abs=0.021)
    bucket.renew(Rate(1, 60.0))
    assert bucket.wait(1001.0) == pytest.approx(59.6, abs=0.05)
