"""Promise 3: exactly one fate for each recipient, whatever the next hop says of the others."""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink

MESSAGE = b"Subject: three fates\r\nMessage-ID: <fates@app.example>\r\n\r\nHello.\r\n"
SENDER = "app@sender.example"


@pytest.fixture
def sink() -> Iterator[RecordingSink]:
    with RecordingSink() as sink:
        yield sink


def relay_to(sink: RecordingSink, directory: Path, **more: object) -> RelayProcess:
    retry = {"schedule": ["2s", "2s"], "jitter": 0}
    routes = [{"name": "all", "via": [f"127.0.0.1:{sink.port}"]}]
    return RelayProcess(directory, {"routes": routes, "retry": retry, **more})


def test_one_message_three_fates(sink: RecordingSink, tmp_path: Path) -> None:
    """250 is delivered once, 550 bounced by one DSN before the 451 is retried and delivered."""
    sink.answers["later@example.com"] = ["451 4.2.1 mailbox busy"]
    sink.answers["gone@example.com"] = "550 5.1.1 no such user"
    recipients = ["good@example.com", "later@example.com", "gone@example.com"]
    with relay_to(sink, tmp_path) as relay:
        with smtplib.SMTP("127.0.0.1", relay.smtp_port) as client:
            client.sendmail(SENDER, recipients, MESSAGE)
        arrived = sink.wait(3)
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
    assert [message.recipients for message in arrived] == [
        ["good@example.com"],
        [SENDER],
        ["later@example.com"],
    ]
    first, bounce, last = arrived
    assert first.content.endswith(MESSAGE)
    assert last.content == first.content
    assert bounce.sender == ""
    report = bounce.content.decode()
    assert "Final-Recipient: rfc822; gone@example.com" in report
    assert "Status: 5.1.1" in report
    assert "later@example.com" not in report
    assert "good@example.com" not in report


def test_the_queue_says_why_one_waits(sink: RecordingSink, tmp_path: Path) -> None:
    """`queue list` and `queue show` name the last reply and the next try; `retry` makes it go now."""
    sink.answers["later@example.com"] = ["451 4.2.1 mailbox busy"]
    with relay_to(sink, tmp_path, retry={"schedule": ["1h"], "jitter": 0}) as relay:
        with smtplib.SMTP("127.0.0.1", relay.smtp_port) as client:
            client.sendmail(SENDER, ["later@example.com"], MESSAGE)
        relay.wait_until(lambda: relay.metric("relay_queue_messages", state="deferred") == 1, "deferred")
        (row,) = relay.listed()
        assert row["sender"] == SENDER
        (recipient,) = row["recipients"]
        assert recipient["address"] == "later@example.com"
        assert "451 4.2.1 mailbox busy" in recipient["delay_reason"]
        shown = relay.command("queue", "show", row["queue_id"])
        assert shown.returncode == 0, shown.stderr
        assert "451 4.2.1 mailbox busy" in shown.stdout
        again = relay.command("queue", "retry", row["queue_id"])
        assert again.returncode == 0, again.stderr
        assert sink.wait(1)[0].recipients == ["later@example.com"]


def test_a_bounce_that_cannot_go_home_goes_to_the_postmaster(sink: RecordingSink, tmp_path: Path) -> None:
    """Promise 9: the null sender never gets a bounce; the postmaster, if set, does."""
    sink.answers["gone@example.com"] = "550 5.1.1 no such user"
    with relay_to(sink, tmp_path, postmaster="ops@example.com") as relay:
        with smtplib.SMTP("127.0.0.1", relay.smtp_port) as client:
            client.sendmail("", ["gone@example.com"], MESSAGE)
        (bounce,) = sink.wait(1)
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
    assert bounce.recipients == ["ops@example.com"]
    assert bounce.sender == ""


def test_held_mail_waits_for_its_operator(sink: RecordingSink, tmp_path: Path) -> None:
    """hold, release and drop work on the running relay, and on its spool when it is down."""
    sink.answers["MAIL"] = ["451 4.3.0 not now"] * 2
    with relay_to(sink, tmp_path, retry={"schedule": ["1h"], "jitter": 0}) as relay:
        with smtplib.SMTP("127.0.0.1", relay.smtp_port) as client:
            for name in ("one", "two"):
                client.sendmail(SENDER, [f"{name}@example.com"], MESSAGE)
        relay.wait_until(lambda: relay.metric("relay_queue_messages", state="deferred") == 2, "deferred")
        assert relay.command("queue", "hold", "--to", "one@example.com").returncode == 0
        assert relay.metric("relay_queue_messages", state="hold") == 1
        relay.terminate()
        assert [row["state"] for row in relay.listed("--to", "one@example.com")] == ["hold"]
        assert relay.command("queue", "drop", "--yes", "--to", "two@example.com").returncode == 0
        assert relay.command("queue", "release", "--to", "one@example.com").returncode == 0
        relay.start()
        assert sink.wait(1)[0].recipients == ["one@example.com"]
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
    assert len(sink.messages) == 1


def test_retry_wakes_a_suspended_lane(sink: RecordingSink, tmp_path: Path) -> None:
    """An operator's retry does not wait for the next probe of a next hop that was down."""
    sink.close()
    with relay_to(sink, tmp_path) as relay:
        with smtplib.SMTP("127.0.0.1", relay.smtp_port) as client:
            client.sendmail(SENDER, ["one@example.com"], MESSAGE)
        relay.wait_until(lambda: relay.metric("relay_destination_suspended", reason="connect") == 1, "down")
        wait_for_a_long_probe(relay)
        sink.open()
        assert relay.command("queue", "retry", "--all").returncode == 0
        sink.wait(1, 5)


def wait_for_a_long_probe(relay: RelayProcess) -> None:
    """Until the next probe is more than 8 seconds away."""

    def far() -> bool:
        shown = json.loads(relay.command("explain", "--json", "one@example.com").stdout)
        return float(shown["lane_state"]["until"]) - time.time() > 8

    relay.wait_until(far, "waiting long")
