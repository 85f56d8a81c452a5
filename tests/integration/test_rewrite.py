"""The mail of a machine's cron, from its own mail program to the next hop, with rules of `rewrite:`."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path

import pytest
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink

# As cron hands it to `sendmail -FCronDaemon -odi -oem -oi -t -f root`
CRON = b"""\
From: "(Cron Daemon)"
 <root@web1.local>
To: root
Subject: Cron <root@web1> test -x /usr/sbin/anacron
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
X-Cron-Env: <LOGNAME=root>

From: root@web1.local
caf\xc3\xa9: command not found
""".replace(b"\n", b"\r\n")


@pytest.mark.parametrize("style", ["text", "json"])
def test_cron_mail(tmp_path: Path, style: str) -> None:
    """It goes the way of the new sender; From has the new address and nothing else changes; the log has the
    old one."""
    with RecordingSink() as sink, RecordingSink() as other:
        config = {
            "origin": "corp.example",
            "log": {"format": style},
            "rewrite": [{"from": "root@*.local", "to": "ops@example.com", "header": True}],
            "routes": [
                {"name": "ops", "from": ["ops@example.com"], "via": [f"127.0.0.1:{sink.port}"]},
                {"name": "rest", "via": [f"127.0.0.1:{other.port}"]},
            ],
        }
        with RelayProcess(tmp_path, config) as relay:
            with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=30) as client:
                assert client.sendmail("root@web1.local", ["root"], CRON) == {}
            (message,) = sink.wait(1)
            assert relay.terminate() == 0
            log = relay.log()
        assert other.messages == []

    assert (message.sender, message.recipients) == ("ops@example.com", ["root@corp.example"])
    received, _, below = message.content.partition(b" +0000\r\n")
    assert received.startswith(b"Received: ")
    assert below == CRON.replace(b" <root@web1.local>\r\n", b" <ops@example.com>\r\n", 1)
    if style == "text":
        assert "from=<ops@example.com>, size=" in log
        assert "orig_from=<root@web1.local> (queue active)" in log
    else:
        (told,) = (fact for fact in map(json.loads, log.splitlines()) if fact["event"] == "received")
        assert (told["sender"], told["orig_from"]) == ("ops@example.com", "root@web1.local")
