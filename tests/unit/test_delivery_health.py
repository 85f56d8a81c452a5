"""The health of a lane: the full product of states and events, the waits of the probes, the window."""

from __future__ import annotations

from itertools import product

import pytest

from relay.delivery.health import (
    HEALTHY,
    TABLE,
    Condition,
    Event,
    Health,
    Impossible,
    Trouble,
    probe_wait,
    step,
)
from relay.delivery.window import Window
from relay.observe.events import SUSPEND_REASONS
from relay.reply import Reply

REFUSED = Trouble("connect", Reply(0, "4.4.1", "connection refused"), "mx.example[192.0.2.1]:25")

LEGAL = """
    healthy   opened  healthy
    healthy   trouble suspended
    healthy   grown   healthy
    suspended due     probing
    suspended gone    healthy
    probing   opened  ramping
    probing   trouble suspended
    probing   gone    healthy
    ramping   opened  ramping
    ramping   sent    ramping
    ramping   trouble suspended
    ramping   grown   healthy
"""
ROWS = {(state, event): after for state, event, after in (row.split() for row in LEGAL.strip().splitlines())}


def in_state(health: Health) -> Condition:
    """A condition in `health`, three probes into its trouble."""
    return (
        HEALTHY if health is Health.HEALTHY else Condition(health, REFUSED, 50.0, 90.0, probes=3, backoff=4)
    )


@pytest.mark.parametrize(("health", "event"), list(product(Health, Event)))
def test_every_state_and_event_is_legal_or_raises(health: Health, event: Event) -> None:
    trouble = REFUSED if event is Event.TROUBLE else None
    after = ROWS.get((health.value, event.value))
    if after is None:
        with pytest.raises(Impossible, match=event.value):
            step(in_state(health), event, 100.0, trouble=trouble)
    else:
        assert after == step(in_state(health), event, 100.0, trouble=trouble).health.value


def test_the_table_holds_exactly_the_legal_rows() -> None:
    assert {(state.value, event.value): after.value for (state, event), after in TABLE.items()} == ROWS


def test_trouble_needs_a_reason_and_nothing_else_takes_one() -> None:
    with pytest.raises(Impossible):
        step(HEALTHY, Event.TROUBLE, 0.0)
    with pytest.raises(Impossible):
        step(HEALTHY, Event.OPENED, 0.0, trouble=REFUSED)
    assert REFUSED.reason in SUSPEND_REASONS


def test_probes_wait_twice_as_long_each_time_up_to_five_minutes() -> None:
    now, condition, waits = 1000.0, HEALTHY, []
    for _ in range(9):
        condition = step(condition, Event.TROUBLE, now, trouble=REFUSED)
        waits.append(condition.until - now)
        now = condition.until
        condition = step(condition, Event.DUE, now)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert condition.probes == 8
    assert condition.since == 1000.0


@pytest.mark.parametrize(
    ("backoff", "random", "seconds"), [(0, 0.0, 5), (0, 1.0, 4), (3, 0.5, 36), (10**6, 0.0, 300)]
)
def test_jitter_makes_a_probe_early_never_late(backoff: int, random: float, seconds: float) -> None:
    assert seconds == pytest.approx(probe_wait(backoff, random))


def test_a_lane_that_falls_while_ramping_goes_on_from_half_the_wait() -> None:
    probing = Condition(Health.PROBING, REFUSED, 50.0, 90.0, probes=6, backoff=6)
    ramping = step(step(probing, Event.OPENED, 100.0), Event.SENT, 100.0)
    fallen = step(step(ramping, Event.SENT, 100.0), Event.TROUBLE, 100.0, trouble=REFUSED)
    assert (fallen.until - 100.0, fallen.probes, fallen.since) == (80.0, 6, 50.0)


def test_a_host_that_lets_us_in_and_refuses_the_first_transaction_has_failed_the_probe() -> None:
    """Else such a lane is probed every few seconds for ever, and nothing in it ever expires (promise 11)."""
    now, condition, waits = 1000.0, HEALTHY, []
    for _ in range(5):
        condition = step(condition, Event.TROUBLE, now, trouble=REFUSED)
        waits.append(condition.until - now)
        now = condition.until
        condition = step(step(condition, Event.DUE, now), Event.OPENED, now)
    assert (waits, condition.probes) == ([5, 10, 20, 40, 80], 4)


def test_a_grown_lane_forgets_its_trouble() -> None:
    ramping = Condition(Health.RAMPING, REFUSED, 50.0, 90.0, probes=6, backoff=6)
    assert step(ramping, Event.GROWN, 100.0) == HEALTHY


@pytest.mark.parametrize(
    ("health", "takes"), [(health, health.value in ("healthy", "ramping")) for health in Health]
)
def test_only_healthy_and_ramping_lanes_take(health: Health, takes: bool) -> None:
    assert takes is in_state(health).takes


def test_a_window_opens_one_first_then_a_few_at_once() -> None:
    window = Window(20)
    assert window.allows(working=0, opening=0)
    assert not window.allows(working=0, opening=1)
    assert window.allows(working=1, opening=0)
    assert not window.allows(working=1, opening=1)
    assert window.allows(working=3, opening=1)
    assert not window.allows(working=3, opening=2)  # five is the initial size


def test_a_window_grows_by_one_a_success_up_to_its_limit() -> None:
    window = Window(20, initial=1)
    for size in range(1, 20):
        assert size == window.size
        window.succeeded(0.0)
    window.succeeded(0.0)
    assert (window.size, window.full) == (20, True)


def test_a_refused_connection_shrinks_the_window_to_what_works() -> None:
    window = Window(20, initial=20)
    window.refused(5, now=100.0)
    window.succeeded(109.9)
    assert window.size == 5
    assert not window.allows(working=5, opening=0)
    for _ in range(5):
        window.succeeded(110.0)
    assert 5 < window.size < 6  # slowly: 1/N each
    window.refused(5, now=120.0)
    window.succeeded(139.9)
    assert window.size == 5  # held twice as long the second time


def test_a_window_is_never_below_one_nor_over_its_limit() -> None:
    window = Window(3)
    assert window.size == 3
    window.refused(0, now=0.0)
    assert window.size == 1
    window.refused(9, now=0.0)
    assert window.size == 3
