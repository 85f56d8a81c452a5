"""The retry schedule, the hints of peers and expiry (promise 11), as tables."""

from __future__ import annotations

import pytest

from relay.config.model import Retry
from relay.delivery.retry import attempts_provided, expired, hint, next_due, wait

PLAIN = Retry()
DAY = 86400.0


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 60), (2, 300), (3, 900), (4, 1800), (5, 2700), (6, 4050), (7, 6075), (10, 14400), (5000, 14400)],
)
def test_the_listed_waits_come_first_then_growth_up_to_the_cap(attempts: int, seconds: float) -> None:
    assert seconds == pytest.approx(wait(attempts, PLAIN))


@pytest.mark.parametrize(
    ("retry", "attempts", "seconds"),
    [
        (Retry(schedule=(60.0,), factor=1.0), 99, 60),
        (Retry(schedule=(7200.0,), cap=3600.0), 1, 3600),
        (Retry(schedule=(7200.0,), cap=3600.0, factor=1.0), 7, 3600),
        (Retry(schedule=(10.0,), factor=100.0), 10**6, 14400),
    ],
)
def test_odd_schedules_stay_finite_and_below_the_cap(retry: Retry, attempts: int, seconds: float) -> None:
    assert seconds == pytest.approx(wait(attempts, retry))


@pytest.mark.parametrize(("random", "due"), [(0.0, 1240), (0.5, 1300), (0.999999, 1360)])
def test_jitter_spreads_both_ways(random: float, due: float) -> None:
    assert due == pytest.approx(next_due(2, 1000.0, PLAIN, random), abs=0.01)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, please try again in 5 minutes", 300),
        ("try again in 90 seconds", 90),
        ("Greylisting in action, please come back in 00:04:59", 299),
        ("retry after 1 hour", 3600),
        ("Try again in 1s", 30),
        ("come back in 7 hours", 3600),
        ("please wait 300 s", 300),
        ("mailbox full", None),
        ("in 2023 messages", None),
        ("within 3 miles", None),
    ],
)
def test_hints_in_replies_are_read_within_bounds(text: str, seconds: float | None) -> None:
    assert seconds == hint(text)


@pytest.mark.parametrize(
    ("attempts", "asked", "random", "seconds"),
    [
        (1, 300.0, 0.0, 300),
        (1, 300.0, 1.0, 330),
        (4, 30.0, 0.0, 30),
        (5, 30.0, 0.5, 2700),
        (1, 3600.0, 0.0, 3600),
    ],
)
def test_a_hint_replaces_listed_waits_and_never_shortens_later_ones(
    attempts: int, asked: float, random: float, seconds: float
) -> None:
    assert 1000 + seconds == pytest.approx(next_due(attempts, 1000.0, PLAIN, random, asked))


@pytest.mark.parametrize(
    ("age", "attempts"), [(0, 1), (59, 1), (60, 2), (360, 3), (1260, 4), (3060, 5), (5760, 6), (5 * DAY, 37)]
)
def test_attempts_provided_counts_as_a_simulation_does(age: float, attempts: int) -> None:
    simulated, clock = 1, wait(1, PLAIN)
    while clock <= age:
        simulated += 1
        clock += wait(simulated, PLAIN)
    assert attempts == simulated
    assert attempts == attempts_provided(age, PLAIN)


def test_a_hardly_growing_schedule_is_counted_in_bounded_time() -> None:
    slow = Retry(schedule=(1.0,), factor=1.0000001, cap=10.0)
    assert attempts_provided(1e9, slow) == 10_000


@pytest.mark.parametrize(
    ("age", "tries", "over"),
    [
        (5 * DAY + 1, 19, True),
        (5 * DAY + 1, 18, False),  # half of 37 is 18.5
        (5 * DAY - 1, 500, False),
        (50 * DAY, 1, False),  # the clock jumped, or the relay was off
        (50 * DAY, 0, False),
    ],
)
def test_expiry_needs_age_and_tries(age: float, tries: int, over: bool) -> None:
    assert over is expired(age, tries, PLAIN)


def test_a_short_give_up_needs_the_first_attempt_only() -> None:
    assert expired(31.0, 1, Retry(give_up=30.0))
