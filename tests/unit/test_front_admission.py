"""Who is let in: exactly as many as the limits say (promise 7)."""

from __future__ import annotations

from relay.front.admission import ASKED, FILES_KEPT, Admission


def test_exactly_as_many_as_the_limit() -> None:
    """The last place is given, the next one is not, and a place that is given back is given again."""
    admission: Admission[str] = Admission(3, 3, 1000)
    assert [admission.admit(f"session {n}", f"192.0.2.{n}") for n in range(4)] == ["", "", "", "sessions"]
    assert len(admission) == 3
    assert admission.release("session 1")
    assert not admission.release("session 1")
    assert admission.admit("session 5", "192.0.2.5") == ""


def test_exactly_as_many_of_one_client() -> None:
    """Counted by address; others are not concerned."""
    admission: Admission[str] = Admission(10, 2, 1000)
    assert [admission.admit(f"session {n}", "192.0.2.1") for n in range(3)] == ["", "", "sessions_per_client"]
    assert admission.admit("other", "192.0.2.2") == ""
    assert admission.release("session 0")
    assert admission.admit("session 4", "192.0.2.1") == ""


def test_a_client_that_is_known_later() -> None:
    """Behind a proxy a session counts in all at once, and for its client when that is known."""
    admission: Admission[str] = Admission(3, 1, 1000)
    assert [admission.admit(f"session {n}", "") for n in range(4)] == ["", "", "", "sessions"]
    assert admission.identify("session 0", "192.0.2.1") == ""
    assert admission.identify("session 1", "192.0.2.1") == "sessions_per_client"
    assert len(admission) == 2 and not admission.release("session 1")
    assert admission.release("session 0") and admission.release("session 2")
    assert admission.admit("session 4", "192.0.2.1") == ""


def test_few_files_are_left() -> None:
    """One session in ASKED is looked at; once they were few each one is, until there are enough again."""
    admission: Admission[int] = Admission(1000, 1000, 1000)
    assert admission.asks_for_file()
    assert admission.admit(0, "192.0.2.1", 5) == ""
    asked = [admission.asks_for_file() for _ in range(ASKED)]
    assert asked == [False] * (ASKED - 1) + [True]
    assert admission.admit(1, "192.0.2.1", admission.highest_file) == "files"
    assert admission.asks_for_file()
    assert admission.admit(2, "192.0.2.1", admission.highest_file) == "files"
    assert admission.asks_for_file()
    assert admission.admit(3, "192.0.2.1", admission.highest_file - 1) == ""
    assert not admission.asks_for_file()
    assert 2 * ASKED < FILES_KEPT  # a socket and a large message each, before the next look
