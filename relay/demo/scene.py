"""Where the demonstration plays: the relay's configuration and the zone of its small DNS."""

from __future__ import annotations

from pathlib import Path

from relay.config.load import load
from relay.config.model import Config
from relay.demo.cast import BOUNCE, CAST
from relay.demo.dns import Record
from relay.demo.sinks import Sink

RETRY = "[1s, 2s]"
ANY = "127.0.0.1:0"  # a port that the system chooses
CONFIG = """\
hostname: relay.demo.example
spool: {directory}/spool
allow_volatile_spool: true                         # a temporary directory, perhaps in memory
listeners:
  - address: "{any}"
dns: {{servers: ["{dns}"]}}
mx: {{port: {mx_port}, tls: none}}
delivery: {{allow_networks: ["127.0.0.0/8"]}}      # MX answers on loopback: only in a demonstration
retry: {{schedule: {retry}, jitter: 0}}
limits: {{spool_reserve: 16MiB}}
admin: {{address: "{any}"}}
routes:
"""
ROUTE = """\
  - name: {name}
    to: ["{domain}"]
    via: ["host.{domain}:{port}"]
    tls: none
"""


def configure(directory: Path, dns: str, sinks: dict[str, Sink]) -> Config:
    """Writes relay.yaml into the directory and loads it, as anybody would."""
    by_mx = next(sink for sink in sinks.values() if sink.letter.by_mx)
    text = CONFIG.format(any=ANY, directory=directory, dns=dns, mx_port=by_mx.port, retry=RETRY)
    for sink in sinks.values():
        if not sink.letter.by_mx:
            letter = sink.letter
            text += ROUTE.format(name=letter.route, domain=letter.domain, port=sink.port)
    file = directory / "relay.yaml"
    file.write_text(text)
    return load(file, {})


def settle(directory: Path, smtp: str, admin: str | None) -> None:
    """Writes the addresses that the system chose into relay.yaml, for commands that ask there."""
    file = directory / "relay.yaml"
    text = file.read_text().replace(f'- address: "{ANY}"', f'- address: "{smtp}"')
    file.write_text(text.replace(f'admin: {{address: "{ANY}"}}', f'admin: {{address: "{admin or ANY}"}}'))


def records() -> dict[str, list[Record]]:
    """What the small DNS holds: a host for every next hop, an MX for those found that way."""
    zone: dict[str, list[Record]] = {}
    for letter in (*CAST, BOUNCE):
        zone[f"host.{letter.domain}"] = [("A", "127.0.0.1")]
        if letter.by_mx:
            zone[letter.domain] = [("MX", f"10 host.{letter.domain}.")]
    return zone
