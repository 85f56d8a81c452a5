"""How failed logins slow a client down: pure, time is an argument."""

from __future__ import annotations

import pytest

from relay.front import throttle
from relay.front.throttle import LIMIT, WINDOW, Level, Throttle, client_key

A, B = "192.0.2.1", "192.0.2.2"


def fail(state: Throttle, times: int, now: float = 0.0, client: str = A, name: str = "x") -> float:
    """The last delay."""
    return [state.failed(client, name, now) for _ in range(times)][-1]


def test_a_client_is_blocked_after_the_limit() -> None:
    """So many failures in a window and no more; others go on."""
    state = Throttle()
    fail(state, LIMIT - 1)
    assert not state.blocked(A, "x", 0.0)
    fail(state, 1)
    assert state.blocked(A, "x", 0.0) and state.blocked(A, "other", 0.0)
    assert not state.blocked(B, "x", 0.0)


def test_silence_helps() -> None:
    """One try after a share of the window, all after the whole; more failures never make it longer."""
    state = Throttle()
    fail(state, LIMIT * 5)
    share = WINDOW / LIMIT
    assert state.blocked(A, "x", share - 1) and not state.blocked(A, "x", share)
    fail(state, LIMIT - 1, WINDOW)
    assert not state.blocked(A, "x", WINDOW)


def test_delays_grow_and_are_capped() -> None:
    """Each failure is answered later than the one before, up to the longest."""
    state = Throttle()
    delays = [state.failed(A, "x", 0.0) for _ in range(LIMIT * 3)]
    assert delays[:5] == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert set(delays[4:]) == {throttle.LONGEST_DELAY}


def test_time_that_goes_back_changes_nothing() -> None:
    """A level never grows by itself."""
    assert throttle.leaked(Level(3.0, 100.0), 50.0) == 3.0
    assert throttle.leaked(None, 50.0) == 0.0


def test_who_succeeded_before_has_a_bucket_of_their_own() -> None:
    """Behind a NAT: one client with an old password does not shut out the others, and guessing their
    passwords is limited just as well."""
    state = Throttle()
    state.succeeded(A, "anna", 0.0)
    fail(state, LIMIT * 2, client=A, name="bert")
    assert state.blocked(A, "bert", 0.0) and not state.blocked(A, "anna", 0.0)
    fail(state, LIMIT, client=A, name="anna")
    assert state.blocked(A, "anna", 0.0)
    assert not state.blocked(B, "anna", 0.0)


def test_an_old_success_counts_no_longer() -> None:
    """After TRUSTED_FOR they are like everybody else there."""
    state = Throttle()
    state.succeeded(A, "anna", 0.0)
    late = throttle.TRUSTED_FOR + 1
    fail(state, LIMIT, late, name="bert")
    assert state.blocked(A, "anna", late)


def test_the_tables_are_bounded() -> None:
    """A million clients take no more memory than the bound; who failed last is still known."""
    state = Throttle()
    for number in range(throttle.REMEMBERED + 50):
        state.failed(str(number), "x", 0.0)
        state.succeeded(str(number), "x", 0.0)
    assert len(state) == throttle.REMEMBERED == len(state._trusted)
    fail(state, LIMIT, client="new")
    assert state.blocked("new", "x", 0.0)


def test_who_fails_again_is_not_the_oldest() -> None:
    """A flood of addresses does not wash away a client that goes on failing."""
    state = Throttle()
    fail(state, LIMIT)
    for number in range(throttle.REMEMBERED + 50):
        if number % 100 == 0:
            fail(state, 1)
        state.failed(str(number), "x", 0.0)
    assert state.blocked(A, "x", 0.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8:0:0:9::1", "2001:0DB8::7", True),
        ("", "x:y", False),
    ],
)
def test_who_counts_as_one_client(one: str, other: str, same: bool) -> None:
    """An IPv4 address; a /64 of IPv6."""
    assert (client_key(one) == client_key(other)) is same
