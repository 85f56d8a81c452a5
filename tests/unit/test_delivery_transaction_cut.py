"""Transactions that end early, and all others: cuts at every point, and any conversation whatever."""

from __future__ import annotations

import pytest
from fakes.jobs import job
from fakes.talk import (
    EOF,
    GO,
    HOST,
    NO_MAIL,
    OK,
    RESET,
    TIMEOUT,
    Line,
    finish,
    people,
    talk,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery.capabilities import Capabilities
from relay.delivery.job import Kind
from relay.delivery.states import STATES, Step
from relay.delivery.transaction import TABLE, Transaction
from relay.delivery.verdict import Trouble
from relay.outcome import Deferred, Delivered

# (replies so far, state then, outcomes, elsewhere) for two recipients
POINTS: list[tuple[list[Line], str, str, list[int]]] = [
    ([], "mail", "DD", [0, 1]),
    ([OK], "rcpt", "DD", [0, 1]),
    ([OK, OK], "rcpt", "DD", [0, 1]),
    ([OK, "550 a"], "rcpt", "FD", [1]),
    ([OK, OK, OK], "data", "DD", []),
    ([OK, OK, "550 a"], "data", "DF", []),
    ([OK, OK, OK, GO], "content", "DD", []),
]
ECHOES: list[tuple[list[Line], str, str, list[int]]] = [
    (["550 a"], "rcpt echo", "FF", []),
    (["451 a", NO_MAIL], "rcpt echo", "DD", [0, 1]),
    (["451 a", NO_MAIL, NO_MAIL], "data echo", "DD", [0, 1]),
    ([OK, "550 a", "451 a"], "data echo", "FD", [1]),
    ([OK, "550 a", "451 a", GO], "lone dot", "FD", [1]),
]


@pytest.mark.parametrize("end", [EOF, RESET, TIMEOUT, "421 closing", "nonsense"])
@pytest.mark.parametrize(("lines", "state", "outcomes", "elsewhere"), POINTS + ECHOES)
def test_a_cut(end: Line, lines: list[Line], state: str, outcomes: str, elsewhere: list[int]) -> None:
    """EOF, RST, time-out, 421 and nonsense at any point before the dot: what is undecided is deferred."""
    result = talk(lines, job(*people(2)))
    assert state == result.transaction.state
    result.take(finish(result.transaction, end))
    assert (True, outcomes, elsewhere) == (result.done, result.outcomes, result.elsewhere)
    assert result.transaction.broken
    assert Kind.DONE is result.transaction.verdict.kind
    if state in ("mail", "rcpt", "data"):
        assert state == result.stage(0) or result.letter(0) == "F"


@pytest.mark.parametrize(
    ("end", "outcome"),
    [(EOF, "A"), (RESET, "A"), (TIMEOUT, "A"), ("nonsense", "A"), ("421 closing", "D"), ("451 no", "D")],
)
def test_a_cut_after_the_dot(end: Line, outcome: str) -> None:
    """The peer may have it: ambiguous, unless it said it has not."""
    result = talk([OK, OK, GO])
    result.transaction.content_sent()
    result.take(finish(result.transaction, end))
    assert (True, outcome, []) == (result.done, result.outcomes, result.elsewhere)
    assert result.stage() == "dot"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("end", [EOF, RESET, "421 idle too long"])
def test_a_kept_connection_was_dead(end: Line, reset: bool) -> None:
    """Before the first reply on a reused connection it is not an attempt."""
    result = talk([end], reused=True, reset=reset)
    assert (result.done, result.transaction.verdict.kind) == (True, Kind.FRESH)
    assert result.job.results == {}
    assert result.transaction.broken


@pytest.mark.parametrize("end", [EOF, RESET, "421 closing"])
def test_a_kept_connection_that_spoke(end: Line) -> None:
    """After the first reply, on a fresh connection, or by a time-out it is one."""
    assert talk([OK, end], reused=True).outcomes == "D"
    assert talk([end], reused=False).outcomes == "D"
    assert talk([TIMEOUT], reused=True).outcomes == "D"
    assert talk([OK, end], reused=True, reset=True).outcomes == "D"


@pytest.mark.parametrize(("reply", "outcome"), [("451 slow", "D"), ("552 too big", "F"), ("250 ok", "D")])
def test_a_reply_in_mid_content(reply: str, outcome: str) -> None:
    """A refusal stands, a 250 is too early; the session can only be cut, so nothing is ambiguous."""
    result = talk([OK, OK, GO])
    assert result.transaction.state == "content"
    result.take(result.transaction.reply(int(reply[:3]), reply[4:].encode()))
    assert (True, outcome, []) == (result.done, result.outcomes, result.elsewhere)
    assert result.transaction.broken


def test_corrupt_content() -> None:
    """Who was refused before has his outcome, the others have none; the connection is of no more use."""
    result = talk([OK, OK, "550 a", GO], job(*people(2)))
    result.take(result.transaction.corrupt("checksum"))
    assert (result.done, result.outcomes) == (True, "-F")
    assert (result.transaction.verdict.kind, result.transaction.verdict.text) == (Kind.CORRUPT, "checksum")
    assert result.transaction.broken


# --- all of it


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_word_for_every_reply(state: str) -> None:
    """The table is complete: refusals have a handler where one can come, of 2yz and 3yz exactly one."""
    digits = {digit for known, digit in TABLE if known == state}
    if state in ("end", "reset"):
        assert digits == ({2} if state == "reset" else set())
    else:
        assert {4, 5} <= digits
        assert digits <= {2, 3, 4, 5}
        assert len(digits & {2, 3}) == (0 if state == "content" else 1)


replies = st.one_of(
    st.sampled_from(["250 ok", "354 go", "452 full", "550 no", "451 later"]),
    st.sampled_from(["421 bye", "530 auth", "552 full", "199 what", "600 what", "251 ok"]),
    st.sampled_from([EOF, RESET, TIMEOUT]),
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(replies, max_size=60),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_conversation(
    lines: list[Line], number: int, pipelining: bool, reused: bool, reset: bool
) -> None:
    """Whatever a peer says: no exception, one outcome for each recipient at the end, no delivery without 2yz
    to a dot, and only what is not final may go elsewhere."""
    work = job(*people(number))
    transaction = Transaction(work, Capabilities(pipelining=pipelining), HOST, reused=reused, reset=reset)
    step, dots = transaction.begin(), 0
    for line in [*lines, EOF]:
        if step is Step.DONE:
            break
        if step is Step.CONTENT:
            transaction.content_sent()
        accepted = not isinstance(line, Trouble) and line[0] == "2" and transaction.state == "dot"
        dots += accepted
        before = {index for index, outcome in work.results.items() if isinstance(outcome, Delivered)}
        step = finish(transaction, line)
        after = {index for index, outcome in work.results.items() if isinstance(outcome, Delivered)}
        assert before <= after
        assert accepted or before == after
    assert step is Step.DONE
    if transaction.verdict.kind is Kind.FRESH:
        assert work.results == {} and reused
        return
    assert set(work.results) == set(range(number))
    for index in transaction.verdict.elsewhere:
        assert isinstance(work.results[index], Deferred)
    assert dots or not any(isinstance(outcome, Delivered) for outcome in work.results.values())
