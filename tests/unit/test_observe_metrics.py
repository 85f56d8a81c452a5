"""Metrics: every label set from the start, never more of them, the queue's numbers at the scrape."""

from __future__ import annotations

import subprocess

from fakes.operator_queue import EPOCH, FakeQueue, FakeSpace
from fakes.tools import require_tool
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from mailqueue.entry import State, Tally
from relay.config.model import Config, Route
from relay.observe import labels
from relay.observe.events import Events
from relay.observe.metrics import Metrics, route_names
from relay.outcome import Deferred, Delivered, Failed
from relay.reply import Reply


def series(metrics: Metrics) -> dict[str, float]:
    """Every line of the exposition: name with labels -> value; the process' own numbers left out."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith(("#", "process_")))
    return {name: float(value) for name, value in pairs}


def fresh() -> Metrics:
    return Metrics(["billing"], ["127.0.0.1:2525"], clock=lambda: EPOCH)


def test_all_label_sets_are_there_at_zero() -> None:
    """An alert on a series that never happened yet finds 0, not nothing."""
    found = series(fresh())
    ones = {name for name, value in found.items() if value and "build_info" not in name}
    assert ones == {'relay_route_up{route="billing"}', "relay_config_last_reload_success"}
    for name in (
        'relay_queue_messages{state="quarantine"}',
        'relay_deliveries_total{result="expired",route="mx"}',
        'relay_deliveries_total{result="delivered",route="billing"}',
        'relay_destination_suspended{reason="tls"}',
        'relay_delivery_stage_seconds_count{stage="final"}',
        'relay_messages_received_total{auth="yes",listener="127.0.0.1:2525"}',
        'relay_smtp_commands_total{code_class="5",verb="other"}',
        'relay_messages_rejected_total{code="452",enhanced="4.3.1",reason="space",stage="mail"}',
        'relay_dns_lookups_total{result="servfail",type="aaaa"}',
        'relay_bugs_total{where="other"}',
        "relay_ambiguous_total",
        "relay_possible_duplicates_total",
        'relay_route_last_success_timestamp_seconds{route="mx"}',
    ):
        assert found[name] == 0, name


def exercise(events: Events, route: str, domain: str) -> None:
    """Every event with labels that a domain from the network could leak into."""
    reply = Reply(550, f"5.{len(domain)}.9", domain)
    events.lane_suspended(f"mx:{domain}", "connect", 5, domain)
    events.attempted("q", route, f"a@{domain}", [(f"b@{domain}", Deferred(reply, domain))], 1, (0, 0, 0, 0))
    events.attempted("q", route, f"a@{domain}", [(f"b@{domain}", Failed(reply, domain))], 1, (0, 0, 0, 0))
    events.attempted("q", route, "", [("b", Delivered(Reply(250, "2.0.0", domain), domain))], 1, (0, 0, 0, 0))
    events.rejected("127.0.0.1:2525", domain, "rcpt", reply, "policy", domain, domain)
    events.refused_address(domain, "127.0.0.1")
    events.lane_resumed(f"mx:{domain}", "connect")
    events.command(domain, 250)


def test_a_hundred_thousand_domains_add_no_series() -> None:
    """What comes from the network never becomes a label."""
    metrics = fresh()
    events = Events(metrics=metrics)
    before = set(series(metrics))
    for number in range(100_000):
        exercise(events, "mx", f"d{number}.example")
    found = series(metrics)
    assert set(found) == before
    assert found['relay_deliveries_total{result="bounced",route="mx"}'] == 100_000
    assert found['relay_destination_suspended{reason="connect"}'] == 0
    assert events.suspended["connect"] == 0


def test_labels_nobody_announced_are_counted_as_other() -> None:
    """A mistake in the code is seen, and cannot grow without bound."""
    metrics = fresh()
    events = Events(metrics=metrics)
    before = len(series(metrics))
    for number in range(100):
        events.connection_opened(f"unknown{number}")
        events.stage(f"unknown{number}", 1)
        events.bug(f"unknown{number}", ValueError())
    found = series(metrics)
    assert found['relay_outbound_connections{route="other"}'] == 100
    assert found['relay_delivery_stage_seconds_count{stage="other"}'] == 100
    assert found['relay_bugs_total{where="other"}'] == 100
    assert len(found) - before < 30


def test_the_queue_is_read_at_the_scrape() -> None:
    """Messages, bytes, ages by state; overdue only where something waits for its turn."""
    metrics = fresh()
    metrics.spool.watch(
        FakeQueue(
            tallies={
                State.INCOMING: Tally(3, 3000, EPOCH - 60, EPOCH - 30),
                State.DEFERRED: Tally(2, 2000, EPOCH - 7200, EPOCH + 600),
                State.HELD: Tally(1, 1000, EPOCH - 100, EPOCH - 100),
                State.ACTIVE: Tally(0, 0, 0.0, 0.0),
            },
            room=FakeSpace(123, 45),
        )
    )
    found = series(metrics)
    assert [found[f'relay_queue_messages{{state="{state}"}}'] for state in labels.QUEUE_STATES] == [
        3,
        0,
        2,
        1,
        0,
    ]
    assert found['relay_queue_bytes{state="deferred"}'] == 2000
    assert found['relay_queue_oldest_age_seconds{state="deferred"}'] == 7200
    assert found['relay_queue_oldest_age_seconds{state="active"}'] == 0
    assert found['relay_queue_oldest_due_age_seconds{state="incoming"}'] == 30
    assert found['relay_queue_oldest_due_age_seconds{state="deferred"}'] == 0  # not due yet
    assert found['relay_queue_oldest_due_age_seconds{state="hold"}'] == 0  # waits for a person
    assert found["relay_spool_free_bytes"] == 123
    assert found["relay_spool_free_inodes"] == 45


def test_promtool_finds_nothing_wrong() -> None:
    """Prometheus' own check of names, help texts and types."""
    promtool = require_tool("promtool", "prometheus")
    metrics = fresh()
    exercise(Events(metrics=metrics), "billing", "example.org")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(metrics.registry),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_openmetrics_can_be_written() -> None:
    """The other format has stricter rules: it ends with # EOF and has every family."""
    text = openmetrics(fresh().registry).decode()  # type: ignore[no-untyped-call]  # the library's
    assert text.endswith("# EOF\n")
    assert "relay_queue_messages" in text


def test_histogram_buckets_add_up() -> None:
    """A value on a bound belongs to that bucket; +Inf holds everything."""
    metrics = fresh()
    events = Events(metrics=metrics)
    for seconds in (0.001, 0.0011, 1000.0):
        events.stage("data", seconds)
    found = series(metrics)
    assert found['relay_delivery_stage_seconds_bucket{le="0.001",stage="data"}'] == 1
    assert found['relay_delivery_stage_seconds_bucket{le="0.005",stage="data"}'] == 2
    assert found['relay_delivery_stage_seconds_bucket{le="300",stage="data"}'] == 2
    assert found['relay_delivery_stage_seconds_bucket{le="+Inf",stage="data"}'] == 3
    assert abs(found['relay_delivery_stage_seconds_sum{stage="data"}'] - 1000.0021) < 1e-6


def test_routes_come_from_the_configuration() -> None:
    """A nameless route is called by its place; a reload adds routes and keeps what was counted."""
    config = Config(routes=(Route(via=("a.example:25",)), Route(name="billing", via=("b.example:25",))))
    assert route_names(config) == ["1", "billing"]
    metrics = Metrics.of(config)
    metrics.delivery_attempts.inc(("billing",))
    metrics.configure(["billing", "new"], [])
    found = series(metrics)
    assert found['relay_delivery_attempts_total{route="billing"}'] == 1
    assert found['relay_delivery_attempts_total{route="new"}'] == 0
