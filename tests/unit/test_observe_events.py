"""Events: each function writes its line and moves its metric; pflogsumm reads the lines."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.tools import require_tool
from prometheus_client import generate_latest

import relay
from relay.envelope import Envelope
from relay.observe.events import REJECT_REASONS, SUSPEND_REASONS, Events
from relay.observe.labels import KNOWN_REFUSALS, refusal, subject
from relay.observe.log import Log
from relay.observe.metrics import Metrics
from relay.outcome import Deferred, Delivered, Failed
from relay.reply import Reply

LISTENER = "127.0.0.1:2525"
CLIENT = "app1.corp.example[192.0.2.7]"
ENVELOPE = Envelope("alice@corp.example", client=CLIENT, listener=LISTENER, message_id="<1@corp.example>")
REWRITTEN = Envelope("ops@corp.example", client=CLIENT, listener=LISTENER, original="root@web1.local")
SENT = Delivered(Reply(250, "2.0.0", "Ok: queued as 4ABC"), "mx1.example.org[192.0.2.1]:25")
LATER = Deferred(Reply(451, "4.7.1", "greylisted\ntry again"), "mx1.example.org[192.0.2.1]:25", "rcpt")
UNREACHED = Deferred(Reply(0, "4.4.1", "connect to mx2.example.org[192.0.2.2]:25: connection refused"))
NEVER = Failed(Reply(550, "", "no such user"), "mx1.example.org[192.0.2.1]:25", "rcpt")
STAGES = (0.5, 0.01, 0.2, 0.1)


class Observed:
    """Events whose lines and numbers can be read."""

    def __init__(self, file: Path, style: str = "text", level: str = "info") -> None:
        self.file = file
        self.clock = FakeClock()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.log = Log(descriptor, style=style, level=level, hostname="mail", clock=self.clock.time)
        self.metrics = Metrics(["billing"], [LISTENER], self.clock.time)
        self.events = Events(self.log, self.metrics, self.clock.time)

    def texts(self) -> list[str]:
        """The lines so far, without time and host; the pid is removed."""
        self.log.flush()
        lines = self.file.read_text().splitlines()
        return [
            re.sub(r"\[\d+\]", "", line.split(" ", 4)[4].removeprefix("relay/"), count=1) for line in lines
        ]

    def value(self, name: str) -> float:
        text = generate_latest(self.metrics.registry).decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        assert found, name
        return float(found[1])


@pytest.fixture
def observed(tmp_path: Path) -> Observed:
    return Observed(tmp_path / "log")


CASES: list[tuple[Callable[[Events], None], str, float, str]] = [
    (lambda e: e.session_opened(LISTENER, CLIENT), f'relay_smtp_sessions{{listener="{LISTENER}"}}', 1,
     f"smtpd: connect from {CLIENT}"),
    (lambda e: e.session_refused(LISTENER, CLIENT, "sessions"),
     f'relay_smtp_connections_total{{listener="{LISTENER}",result="sessions"}}', 1,
     f"smtpd: warning: refused connection from {CLIENT}: sessions"),
    (lambda e: e.session_gave_way(LISTENER, CLIENT), "relay_smtp_sessions_gave_way_total", 1,
     f"smtpd: ended the session of {CLIENT}: places are short"),
    (lambda e: e.proxy_refused(LISTENER, CLIENT, "missing"),
     f'relay_smtp_connections_total{{listener="{LISTENER}",result="proxy"}}', 1,
     f"smtpd: warning: refused connection from {CLIENT}: PROXY header: missing"),
    (lambda e: e.tls_started(LISTENER, CLIENT, "starttls", "TLSv1.3", "AES"),
     'relay_tls_sessions_total{direction="in",policy="starttls",result="ok",version="TLSv1.3"}', 1,
     f"smtpd: TLS connection established from {CLIENT}: TLSv1.3 with cipher AES"),
    (lambda e: e.tls_failed(LISTENER, CLIENT, "implicit", "time-out"),
     'relay_tls_sessions_total{direction="in",policy="implicit",result="failed",version="none"}', 1,
     f"smtpd: TLS handshake with {CLIENT} failed: time-out"),
    (lambda e: e.certificate("tls.crt", 1_800_000_000, 1_700_000_000, False),
     "relay_cert_not_after_timestamp_seconds", 1_800_000_000,
     "smtpd: the certificate tls.crt is shown, valid until 2027-01-15 08:00 UTC"),
    (lambda e: e.certificate("tls.crt", 1_600_000_000, 1_700_000_000, True),
     'relay_cert_reloads_total{result="ok"}', 1,
     "smtpd: warning: the certificate tls.crt expired on 2020-09-13 12:26 UTC: renew it"),
    (lambda e: e.certificate_kept("no pair"), 'relay_cert_reloads_total{result="failed"}', 1,
     "smtpd: warning: the old certificate stays in use: no pair"),
    (lambda e: e.session_closed(LISTENER, CLIENT), f'relay_smtp_sessions{{listener="{LISTENER}"}}', -1,
     f"smtpd: disconnect from {CLIENT}"),
    (lambda e: e.command("MAIL", 250), 'relay_smtp_commands_total{code_class="2",verb="MAIL"}', 1, ""),
    (lambda e: e.command("XYZZY", 500), 'relay_smtp_commands_total{code_class="5",verb="other"}', 1, ""),
    (lambda e: e.rejected(LISTENER, CLIENT, "rcpt", Reply(550, "5.7.1", "no"), "policy", "a@b", "<c@d>"),
     'relay_messages_rejected_total{code="550",enhanced="5.7.1",reason="policy",stage="rcpt"}', 1,
     f"smtpd: NOQUEUE: reject: RCPT from {CLIENT}: 550 5.7.1 no; from=<a@b> to=<c@d>"),
    (lambda e: e.rejected(LISTENER, CLIENT, "data", Reply(599, "5.9.9", "no"), "policy"),
     'relay_messages_rejected_total{code="5yz",enhanced="other",reason="policy",stage="data"}', 1,
     f"smtpd: NOQUEUE: reject: DATA from {CLIENT}: 599 5.9.9 no; from=<>"),
    (lambda e: e.received("q", ENVELOPE, 1500, 2), "relay_received_recipients_total", 2,
     "qmgr: q: from=<alice@corp.example>, size=1500, nrcpt=2 (queue active)"),
    (lambda e: e.received("q", ENVELOPE, 1500, 2),
     f'relay_messages_received_total{{auth="no",listener="{LISTENER}"}}', 1,
     f"smtpd: q: client={CLIENT}, message-id=<1@corp.example>"),
    (lambda e: e.received("q", REWRITTEN, 1500, 2), "relay_received_recipients_total", 2,
     "qmgr: q: from=<ops@corp.example>, size=1500, nrcpt=2, orig_from=<root@web1.local> (queue active)"),
    (lambda e: e.login(LISTENER, CLIENT, "PLAIN", "ok", "app1"),
     'relay_auth_total{mechanism="PLAIN",result="ok"}', 1,
     f"smtpd: login from {CLIENT}: sasl_method=PLAIN, sasl_username=app1"),
    (lambda e: e.login(LISTENER, CLIENT, "PLAIN", "cached", "app1"),
     'relay_auth_total{mechanism="PLAIN",result="cached"}', 1, ""),
    (lambda e: e.login(LISTENER, CLIENT, "LOGIN", "failed", "x\r\ny"),
     'relay_auth_total{mechanism="LOGIN",result="failed"}', 1,
     f"smtpd: warning: {CLIENT}: SASL LOGIN authentication failed: authentication failure, "
     "sasl_username=x\\r\\ny"),
    (lambda e: e.login(LISTENER, CLIENT, "X", "invalid", ""),
     'relay_auth_total{mechanism="other",result="other"}', 1,
     f"smtpd: warning: {CLIENT}: SASL X authentication failed: malformed or cancelled"),
    (lambda e: e.users_read(3), "relay_users", 3, "smtpd: users_file: 3 may log in"),
    (lambda e: e.users_trouble("/etc/relay/users:2: no user"), "relay_users_file_errors_total", 1,
     "smtpd: warning: users_file: /etc/relay/users:2: no user"),
    (lambda e: e.normalized(CLIENT), "relay_bare_newlines_normalized_total", 1,
     f"smtpd: bare line ends from {CLIENT} became CRLF"),
    (lambda e: e.committed(0.003, 20), 'relay_spool_fsync_seconds_bucket{le="0.005"}', 1, ""),
    (lambda e: e.committed(0.003, 20), "relay_spool_committed_entries_total", 20, ""),
    (lambda e: e.spool_error("sync", OSError("I/O")), 'relay_spool_errors_total{op="sync"}', 1,
     "queue: error: spool sync: I/O"),
    (lambda e: e.quarantined("q", "checksum"), "relay_quarantined_total", 1,
     "queue: q: quarantined: checksum"),
    (lambda e: e.recovered(3, 1, 2), "relay_possible_duplicates_total", 3,
     "queue: warning: unclean stop: 3 messages were in flight, may be delivered twice; 1 of them held after "
     "too many crashes, 2 orphan files removed"),
    (lambda e: e.recovered(1, 0, 1), "relay_possible_duplicates_total", 1,
     "queue: warning: unclean stop: 1 message was in flight, may be delivered twice; 0 of them held after "
     "too many crashes, 1 orphan file removed"),
    (lambda e: e.recovered(0, 0, 2), "relay_orphan_files_total", 2,
     "queue: recovered: 2 orphan files removed"),
    (lambda e: e.removed("q"), "relay_messages_removed_total", 1, "qmgr: q: removed"),
    (lambda e: e.operator("drop", 7, "sender=@x"), 'relay_operator_actions_total{action="drop"}', 7,
     "queue: operator: drop sender=@x: 7 messages"),
    (lambda e: e.operator("hold", 1, ""), 'relay_operator_actions_total{action="hold"}', 1,
     "queue: operator: hold all: 1 message"),
    (lambda e: e.attempted("q", "billing", "a@b", [("bob@example.org", SENT)], 1.5, STAGES),
     'relay_deliveries_total{result="delivered",route="billing"}', 1,
     "smtp: q: to=<bob@example.org>, relay=mx1.example.org[192.0.2.1]:25, delay=1.50, "
     "delays=0.50/0.01/0.20/0.10, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4ABC)"),
    (lambda e: e.attempted("q", "billing", "a@b", [("bob@example.org", SENT)], 1.5, STAGES),
     'relay_route_last_success_timestamp_seconds{route="billing"}', 1_700_000_000, ""),
    (lambda e: e.attempted("q", "mx", "a@b", [("c@d", SENT)] * 3, 1.5, STAGES),
     'relay_delivery_delay_seconds_count{route="mx"}', 3, ""),
    (lambda e: e.attempted("q", "mx", "a@b", [("bob@example.org", LATER)], 1.5, STAGES),
     'relay_delivery_failures_total{enhanced="4.7",stage="rcpt"}', 1,
     "smtp: q: to=<bob@example.org>, relay=mx1.example.org[192.0.2.1]:25, delay=1.50, "
     "delays=0.50/0.01/0.20/0.10, dsn=4.7.1, status=deferred (host mx1.example.org[192.0.2.1]:25 said: "
     "451 4.7.1 greylisted try again (in reply to RCPT TO command))"),
    (lambda e: e.attempted("q", "mx", "a@b", [("bob@example.org", UNREACHED)], 1.5, STAGES),
     'relay_deliveries_total{result="deferred",route="mx"}', 1,
     "smtp: q: to=<bob@example.org>, relay=none, delay=1.50, delays=0.50/0.01/0.20/0.10, dsn=4.4.1, "
     "status=deferred (4.4.1 connect to mx2.example.org[192.0.2.2]:25: connection refused)"),
    (lambda e: e.attempted("q", "mx", "a@b", [("bob@example.org", NEVER)], 1.5, STAGES),
     'relay_deliveries_total{result="bounced",route="mx"}', 1,
     "smtp: q: to=<bob@example.org>, relay=mx1.example.org[192.0.2.1]:25, delay=1.50, "
     "delays=0.50/0.01/0.20/0.10, dsn=5.0.0, status=bounced (host mx1.example.org[192.0.2.1]:25 said: "
     "550 no such user (in reply to RCPT TO command))"),
    (lambda e: e.attempted("q", "mx", "a@b", [("c@d", SENT), ("e@f", NEVER)], 1.5, STAGES),
     'relay_delivery_attempts_total{route="mx"}', 1, ""),
    (lambda e: e.expired("q", "mx", 2), 'relay_deliveries_total{result="expired",route="mx"}', 2,
     "qmgr: q: expired: 2 recipients given up"),
    (lambda e: e.expired("q", "mx", 1), 'relay_deliveries_total{result="expired",route="mx"}', 1,
     "qmgr: q: expired: 1 recipient given up"),
    (lambda e: e.stage("final", 0.02),
     'relay_delivery_stage_seconds_bucket{le="0.025",stage="final"}', 1, ""),
    (lambda e: e.connection_opened("mx"), 'relay_outbound_connections{route="mx"}', 1, ""),
    (lambda e: e.connection_closed("mx"), 'relay_outbound_connections{route="mx"}', -1, ""),
    (lambda e: e.connection_reused(), "relay_outbound_reused_total", 1, ""),
    (lambda e: e.retried_fresh("mx"), 'relay_outbound_retried_fresh_total{route="mx"}', 1, ""),
    (lambda e: e.throttled("mx", 1.5), 'relay_throttle_delay_seconds_total{route="mx"}', 1.5, ""),
    (lambda e: e.lane_suspended("mx:example.org", "connect", 5.2, "refused"),
     'relay_destination_suspended{reason="connect"}', 1,
     "qmgr: warning: mx:example.org suspended (connect), probing in 5 s: refused"),
    (lambda e: e.lane_suspended("route:billing", "auth", 5.2, "no"),
     'relay_route_up{route="billing"}', 0, ""),
    (lambda e: e.lane_resumed("mx:example.org", "connect"),
     'relay_destination_suspended{reason="connect"}', 0,
     "qmgr: mx:example.org resumed (was: connect)"),
    (lambda e: e.lane_forgotten("mx:example.org"),
     'relay_destination_suspended{reason="connect"}', 0, ""),
    (lambda e: e.route_fault("billing", "smtp.example.net:587", "auth", 60.0, "535 no"),
     'relay_route_fault{reason="auth",route="billing"}', 1,
     "smtp: warning: route billing: smtp.example.net:587 at fault (auth), asked again in 60 s: 535 no"),
    (lambda e: e.route_fault("billing", "smtp.example.net:587", "auth", 60.0, "535 no", ("/run/p", "/run/q")),
     'relay_route_fault{reason="auth",route="billing"}', 1,
     "smtp: warning: route billing: smtp.example.net:587 at fault (auth), asked again in 60 s, see /run/p "
     "and /run/q: 535 no"),
    (lambda e: e.route_fault_ended("billing", "smtp.example.net:587", "auth"),
     'relay_route_fault{reason="auth",route="billing"}', -1,
     "smtp: route billing: smtp.example.net:587 no longer at fault (was: auth)"),
    (lambda e: e.dns_lookup("mx", "nodata"), 'relay_dns_lookups_total{result="nodata",type="mx"}', 1, ""),
    (lambda e: e.refused_address("example.org", "127.0.0.1"), "relay_refused_addresses_total", 1,
     "smtp: warning: the MX of example.org points to 127.0.0.1 inside refused address space: "
     "not used (delivery.allow_networks permits it)"),
    (lambda e: e.ambiguous("q", "mx1"), "relay_ambiguous_total", 1,
     "smtp: warning: q: mx1 did not answer the final dot and may have the message"),
    (lambda e: e.tls("out", "TLSv1.3", "verify", "ok"),
     'relay_tls_sessions_total{direction="out",policy="verify",result="ok",version="TLSv1.3"}', 1, ""),
    (lambda e: e.dsn("failed", "report", "q"), 'relay_dsn_total{action="failed"}', 1,
     "bounce: q: sender failed notification: report"),
    (lambda e: e.dsn("dropped", "", "q"), 'relay_dsn_total{action="dropped"}', 1,
     "bounce: q: notification dropped: nobody to send it to"),
    (lambda e: e.started("hello"), 'relay_bugs_total{where="loop"}', 0, "master: hello"),
    (lambda e: e.stopping("bye"), 'relay_bugs_total{where="loop"}', 0, "master: bye"),
    (lambda e: e.reloaded(False, "line 3"), "relay_config_last_reload_success", 0,
     "master: error: reload failed: line 3"),
    (lambda e: e.reloaded(True, "done"), 'relay_config_reloads_total{result="ok"}', 1, "master: done"),
    (lambda e: e.bug("front.session", KeyError("x")), 'relay_bugs_total{where="front"}', 1,
     "bug: bug: in front.session: KeyError: 'x'"),
    (lambda e: e.warning("careful"), 'relay_bugs_total{where="loop"}', 0, "master: warning: careful"),
    (lambda e: e.secret_exposed("/etc/relay/p"), 'relay_bugs_total{where="loop"}', 0,
     "smtp: warning: everybody on this machine can read /etc/relay/p; take that right away (chmod o= FILE)"),
    (lambda e: e.info("note"), 'relay_bugs_total{where="loop"}', 0, "master: note"),
    (lambda e: e.loop_lag(0.02), 'relay_event_loop_lag_seconds_bucket{le="0.05"}', 1, ""),
]  # fmt: skip


@pytest.mark.parametrize(("act", "metric", "value", "line"), CASES, ids=[case[1] for case in CASES])
def test_an_event_counts_and_tells(
    observed: Observed, act: Callable[[Events], None], metric: str, value: float, line: str
) -> None:
    """The metric has moved; the line stands in the log."""
    act(observed.events)
    assert observed.value(metric) == value
    assert not line or line in observed.texts()


def test_every_event_has_a_case() -> None:
    """No event is forgotten above."""
    public = {name for name, _ in inspect.getmembers(Events, inspect.isfunction) if not name.startswith("_")}
    source = inspect.getsource(inspect.getmodule(Observed))  # type: ignore[arg-type]  # it is this module
    assert {name for name in public if f"lambda e: e.{name}(" not in source} == set()


@pytest.mark.parametrize("style", ["text", "json"])
def test_every_event_writes_both_forms(tmp_path: Path, style: str) -> None:
    """Every line of every event is whole: an object, or text with its head."""
    observed = Observed(tmp_path / "log", style)
    for act, _, _, _ in CASES:
        act(observed.events)
    observed.log.close()
    lines = observed.file.read_text().splitlines()
    assert len(lines) >= len([case for case in CASES if case[3]])
    for line in lines:
        if style == "json":
            assert {"time", "level", "part", "event"} <= set(json.loads(line))
        else:
            assert re.match(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d mail relay/[a-z]+\[\d+\]: \S", line)


def test_the_bug_line_is_followed_by_one_traceback(observed: Observed) -> None:
    """A traceback per place and second; every bug is counted and has its line."""
    for _ in range(3):
        try:
            raise ValueError("broken")
        except ValueError as error:
            observed.events.bug("session", error)
    texts = observed.texts()
    assert texts.count("bug: bug: in session: ValueError: broken") == 3
    assert texts.count("bug: | Traceback (most recent call last):") == 1
    assert observed.value('relay_bugs_total{where="session"}') == 3


def test_addresses_cannot_end_their_field(observed: Observed) -> None:
    """A quoted local part with a bracket does not forge the rest of the line."""
    evil = '"x>, relay=mx, delay=1, dsn=2.0.0, status=sent (y"@example.org'
    observed.events.attempted("q", "mx", evil, [(evil, NEVER)], 1, STAGES)
    found = re.search(r"to=<([^>]*)>, relay=([^,]+),.* status=(\S+)", observed.texts()[0])
    assert found
    assert found.group(2, 3) == ("mx1.example.org[192.0.2.1]:25", "bounced")


def test_an_expired_recipient_is_counted_once(observed: Observed) -> None:
    """`attempted` logs it, `expired` counts it."""
    gone = Failed(Reply(451, "4.4.7", "too old"), "", "age")
    observed.events.attempted("q", "mx", "a@b", [("c@d", gone)], 1, STAGES)
    observed.events.expired("q", "mx", 1)
    assert observed.value('relay_deliveries_total{result="bounced",route="mx"}') == 0
    assert observed.value('relay_deliveries_total{result="expired",route="mx"}') == 1


def test_a_lane_suspended_twice_counts_once(observed: Observed) -> None:
    """Failed probes tell again, the gauge stays right, also when the reason changes."""
    for reason in ("connect", "connect", "tls"):
        observed.events.lane_suspended("mx:a", reason, 5, "")
    assert observed.events.suspended["connect"] == 0
    assert observed.events.suspended["tls"] == 1
    observed.events.lane_resumed("mx:a", "tls")
    observed.events.lane_resumed("mx:a", "tls")
    observed.events.lane_suspended("mx:b", "tls", 5, "")
    observed.events.lane_forgotten("mx:b")
    assert observed.value('relay_destination_suspended{reason="tls"}') == 0


def test_info_is_counted_when_it_is_not_logged(tmp_path: Path) -> None:
    """The level is about lines, not about numbers."""
    observed = Observed(tmp_path / "log", level="error")
    observed.events.received("q", ENVELOPE, 1, 1)
    observed.events.attempted("q", "mx", "a@b", [("c@d", SENT)], 1, STAGES)
    assert observed.texts() == []
    assert observed.value("relay_received_bytes_total") == 1
    assert observed.value('relay_deliveries_total{result="delivered",route="mx"}') == 1


def test_labels_are_reduced() -> None:
    """Known refusals as they are, others by class; status codes to class and subject."""
    assert refusal("mail", Reply(452, "4.3.1", ""), "space") in KNOWN_REFUSALS
    assert refusal("mail", Reply(452, "4.9.9", ""), "space") == ("mail", "4yz", "other", "space")
    assert [subject(text) for text in ("5.7.26", "4.4.1", "2.0.0", "", "5.9.1")] == [
        "5.7", "4.4", "none", "none", "none",
    ]  # fmt: skip
    assert len(REJECT_REASONS) == 16
    assert len(SUSPEND_REASONS) == 9


def refusals() -> set[tuple[str, str, str]]:
    """(code, enhanced, reason) of every Refused that the front writes out in full."""
    front = Path(relay.__file__).parent / "front"
    calls = (
        [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        for path in front.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused"
    )
    return {(str(call[0]), str(call[1]), str(call[-1])) for call in calls if len(call) >= 3}


OF_AUTH = {
    ("454", "4.7.0", "auth"),
    ("501", "5.7.0", "auth"),
    ("504", "5.5.4", "syntax"),
    ("535", "5.7.8", "auth"),
    ("538", "5.7.11", "auth"),
}


def test_the_front_s_refusals_have_their_labels() -> None:
    """Those of EXPN and AUTH are of no stage and therefore never counted here (AUTH has a metric)."""
    known = {(code, enhanced, reason) for _, code, enhanced, reason in KNOWN_REFUSALS}
    assert refusals() - known <= {("502", "5.7.0", "policy"), *OF_AUTH}
    assert len(refusals()) >= 5


def test_pflogsumm_reads_our_lines(observed: Observed) -> None:
    """The report tool for Postfix logs counts what happened."""
    pflogsumm = require_tool("pflogsumm", "pflogsumm")
    events = observed.events
    for name, envelope in (("1j9m2k4tq0a", ENVELOPE), ("1j9m2k4tq0b", REWRITTEN), ("1j9m2k4tq0c", ENVELOPE)):
        events.session_opened(LISTENER, CLIENT)
        events.received(name, envelope, 2048, 1)
        events.session_closed(LISTENER, CLIENT)
    events.received("1j9m2k4tq0d", Envelope("", client=CLIENT, listener=LISTENER), 1024, 1)
    for name in ("1j9m2k4tq0a", "1j9m2k4tq0b"):
        events.attempted(name, "mx", "alice@corp.example", [("bob@example.org", SENT)], 1.5, STAGES)
        events.removed(name)
    events.attempted("1j9m2k4tq0c", "mx", "alice@corp.example", [("bob@example.org", LATER)], 1.5, STAGES)
    events.attempted("1j9m2k4tq0c", "mx", "alice@corp.example", [("bob@example.org", UNREACHED)], 9, STAGES)
    events.attempted("1j9m2k4tq0d", "mx", "", [("eve@example.net", NEVER)], 0.1, STAGES)
    events.rejected(LISTENER, CLIENT, "rcpt", Reply(550, "5.7.1", "relaying denied"), "policy", "a@b", "c@d")
    events.warning("something")
    observed.log.close()
    report = subprocess.run(
        [pflogsumm, "--syslog-name=relay", str(observed.file)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert report.stderr == ""
    assert "greylisted" in report.stdout
    found = re.findall(r"^ +(\d+) +([a-z]+)", report.stdout, re.M)
    totals = {name: int(number) for number, name in found}
    expected = {"received": 4, "delivered": 2, "deferred": 1, "bounced": 1, "rejected": 1, "senders": 3}
    assert {name: totals.get(name) for name in expected} == expected
