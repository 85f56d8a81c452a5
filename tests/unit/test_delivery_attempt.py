"""What an attempt ended as: remaining recipients, due times, reports, expiry, as values."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mailqueue.entry import Entry, Recipient
from relay.config.model import Retry
from relay.delivery.attempt import (
    REPLY_LIMIT,
    WARNED,
    Conclusion,
    conclude,
    conclude_unreached,
    spoiled,
)
from relay.outcome import Deferred, Delivered, Failed, Outcome
from relay.reply import Reply

NOW = 1_700_000_000.0
HOUR, DAY = 3600.0, 86400.0
OK = Delivered(Reply(250, "2.0.0", "ok"), "hop")
LATER = Deferred(Reply(451, "4.7.1", "later"), "hop[192.0.2.1]:25", "rcpt")
NEVER = Failed(Reply(550, "5.1.1", "no such user"), "hop", "rcpt")
LOST = Deferred(Reply(0, "4.4.2", "connection lost"), "hop", "dot", ambiguous=True)
WARN = Retry(warn_after=4 * HOUR)


def entry(*recipients: Recipient, age: float = 0.0, attempts: int = 0) -> Entry:
    accepted = NOW - age
    return Entry(1, 1, "mx:a.example", not attempts, attempts, accepted, accepted, "s@a", 9, list(recipients))


def after(
    *outcomes: Outcome,
    age: float = 0.0,
    attempts: int = 0,
    retry: Retry | None = None,
    untouched: Sequence[Recipient] = (),
    reply: str = "",
    options: str = "",
) -> Conclusion:
    """The conclusion of an attempt with one recipient, r0, r1, ..., for each outcome; no jitter."""
    recipients = [Recipient(f"r{number}", options, reply) for number in range(len(outcomes))]
    results = list(zip(recipients, outcomes, strict=True))
    tried = entry(*recipients, *untouched, age=age, attempts=attempts)
    return conclude(tried, results, NOW, retry or Retry(), 0.5, untouched)


def names(results: Sequence[tuple[Recipient, Outcome]]) -> list[str]:
    return [recipient.address for recipient, _ in results]


def test_all_delivered_leaves_nothing_and_reports_nothing() -> None:
    conclusion = after(OK, OK)
    assert (conclusion.remaining, conclusion.reports) == ([], False)


def test_mixed_outcomes_part_the_recipients() -> None:
    conclusion = after(OK, LATER, NEVER)
    assert [recipient.address for recipient in conclusion.remaining] == ["r1"]
    assert conclusion.remaining[0].reply == "hop[192.0.2.1]:25 said: 451 4.7.1 later"
    assert names(conclusion.failed) == ["r2"]
    assert conclusion.due == NOW + 60
    assert len(conclusion.results) == 3


@pytest.mark.parametrize(("attempts", "wait"), [(0, 60), (1, 300), (2, 900), (4, 2700)])
def test_the_schedule_counts_this_attempt(attempts: int, wait: float) -> None:
    assert after(LATER, attempts=attempts).due == NOW + wait


@pytest.mark.parametrize(
    ("stage", "code", "wait"), [("rcpt", 451, 600), ("dot", 451, 600), ("mail", 451, 60), ("rcpt", 0, 60)]
)
def test_a_hint_is_honoured_where_greylisting_says_it(stage: str, code: int, wait: float) -> None:
    asked = Deferred(Reply(code, "4.7.1", "greylisted, try again in 10 minutes"), "hop", stage)
    assert after(asked, LATER).due == pytest.approx(NOW + wait, rel=0, abs=wait * 0.1)


def test_an_ambiguous_end_waits_ten_minutes_at_least() -> None:
    conclusion = after(LOST, LOST)
    assert conclusion.due == NOW + 600
    assert conclusion.ambiguous == ["hop"]
    assert after(LOST, attempts=5).due == NOW + 4050


@pytest.mark.parametrize(
    ("age", "attempts", "expired"),
    [(5 * DAY + 1, 18, 1), (5 * DAY + 1, 17, 0), (5 * DAY - 1, 99, 0), (90 * DAY, 0, 0)],
)
def test_expiry_needs_age_and_attempts(age: float, attempts: int, expired: int) -> None:
    conclusion = after(LATER, age=age, attempts=attempts)
    assert conclusion.expired == expired
    assert len(conclusion.remaining) == 1 - expired
    assert len(conclusion.failed) == expired


def test_who_expires_fails_with_the_last_reply_and_is_logged_so() -> None:
    conclusion = after(LATER, NEVER, age=6 * DAY, attempts=30)
    assert [outcome for _, outcome in conclusion.results] == [
        Failed(LATER.reply, LATER.host, "age"),
        NEVER,
    ]
    assert names(conclusion.failed) == ["r1", "r0"]


def test_without_a_last_reply_expiry_says_4_4_7() -> None:
    silent = Deferred(Reply(0, "", ""), "", "connect")
    (_, outcome) = after(silent, age=6 * DAY, attempts=30).failed[0]
    assert outcome.reply.enhanced == "4.4.7"


def test_an_entry_of_a_suspended_lane_expires_with_the_trouble_of_the_lane() -> None:
    conclusion = conclude_unreached(
        entry(Recipient("a"), Recipient("b")), Reply(0, "4.4.1", "refused"), "hop"
    )
    assert names(conclusion.failed) == ["a", "b"]
    assert {outcome for _, outcome in conclusion.results} == {
        Failed(Reply(0, "4.4.1", "refused"), "hop", "age")
    }
    assert (conclusion.remaining, conclusion.expired) == ([], 2)


def test_success_is_reported_only_for_who_may_want_it_and_where_nobody_else_does() -> None:
    not_passed_on = Delivered(OK.reply, "hop", dsn_passed_on=False)
    assert names(after(not_passed_on, OK, options="NOTIFY=SUCCESS").relayed) == ["r0"]
    assert not after(not_passed_on).reports


def test_the_delay_is_warned_of_once() -> None:
    assert not after(LATER, age=5 * HOUR).delayed
    assert not after(LATER, age=3 * HOUR, retry=WARN).delayed
    first = after(LATER, age=5 * HOUR, retry=WARN)
    assert names(first.delayed) == ["r0"]
    assert first.remaining[0].reply.endswith("later" + WARNED)
    second = after(LATER, age=6 * HOUR, retry=WARN, reply=first.remaining[0].reply)
    assert not second.delayed
    assert second.remaining[0].reply.count(WARNED) == 1
    assert second.remaining[0].reply.endswith(WARNED)


def test_a_stored_reply_is_bounded() -> None:
    long = Deferred(Reply(451, "4.0.0", "x" * 5000), "hop", "rcpt")
    assert len(after(long, age=5 * HOUR, retry=WARN).remaining[0].reply) == REPLY_LIMIT + len(WARNED)


def test_who_goes_another_way_stays_as_they_are() -> None:
    other = Recipient("other", "NOTIFY=NEVER", "said before")
    delivered = after(OK, untouched=[other])
    assert (delivered.remaining, delivered.due) == ([other], 0.0)
    deferred = after(LATER, untouched=[other])
    assert [recipient.address for recipient in deferred.remaining] == ["r0", "other"]
    assert deferred.due == NOW + 60


def test_a_bug_of_ours_defers_everybody() -> None:
    outcomes = [outcome for _, outcome in spoiled([Recipient("a"), Recipient("b")])]
    assert all(isinstance(outcome, Deferred) and outcome.reply.enhanced == "4.3.0" for outcome in outcomes)


def test_an_ambiguous_end_is_counted_also_when_the_entry_expires_with_it() -> None:
    conclusion = after(LOST, age=6 * DAY, attempts=100)
    assert (conclusion.expired, conclusion.ambiguous) == (1, ["hop"])
