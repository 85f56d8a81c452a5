"""What is measured: the relay and Postfix, each in a directory and on a port of its own.

Both sync before 250 and send everything to one next hop. Postfix is set as fast as it is known to be: 50
connections to the next hop, kept and reused, no limits of rates, no delays, no log file.

Each has a session of its own, load and sink have another together: Linux shares the CPU out by session first
(sched(7), autogroup), and Postfix's master always makes one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.process import children
from bench.programs import found
from fakes.ports import ReservedPort
from fakes.postfix import Postfix
from fakes.relay_process import RelayProcess

CONCURRENCY = 50  # connections to the next hop
SESSIONS = 1000  # from the load, at most
PATIENCE = 60.0  # s to start, to stop


class Server(Protocol):
    """Its exit ends it with all that it wrote.

    port: where it takes mail. root: the pid above all its processes. listing, retrying: the commands for an
    operator's two deeds, on the whole queue.
    """

    port: int

    @property
    def root(self) -> int: ...
    @property
    def listing(self) -> list[str]: ...
    @property
    def retrying(self) -> list[str]: ...
    def __exit__(self, *exc: object) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> object: ...


class Kind(Protocol):
    """Makes a server.

    hop: the port it sends to; certificate: with its key, for TLS both ways; prefix: what to run it under.
    """

    def __call__(self, hop: int, certificate: Path | None = None, prefix: Sequence[str] = ()) -> Server: ...


class Ours(RelayProcess):
    """The relay of this checkout."""

    def __init__(self, hop: int, certificate: Path | None = None, prefix: Sequence[str] = ()) -> None:
        self._tls, self._prefix = ReservedPort(), prefix
        directory = Path(tempfile.mkdtemp(prefix="bench-"))
        super().__init__(directory, patience=PATIENCE, own_session=True)
        self.port = self._tls.port if certificate else self.smtp_port
        route = {"name": "hop", "via": [f"127.0.0.1:{hop}"], "tls": "none", "concurrency": CONCURRENCY}
        config: dict[str, Any] = {
            "routes": [route],
            "limits": {"sessions": SESSIONS, "sessions_per_client": SESSIONS},
            "retry": {"schedule": ["1h"]},  # nothing is tried again unless asked for
        }
        if certificate:  # whether it is ready is asked of the first listener, in clear
            route |= {"via": [f"smtps://127.0.0.1:{hop}"], "tls": "require"}
            config["tls"] = {"certificate": str(certificate), "key": str(certificate)}
            config["listeners"] = [
                {"address": f"127.0.0.1:{self.smtp_port}"},
                {"address": f"127.0.0.1:{self.port}", "tls": "implicit"},
            ]
        self.configure(config)

    def __exit__(self, *exc: object) -> None:
        try:
            if self.running:
                self.stop()
        finally:
            super().__exit__(*exc)
            self._tls.close()
            shutil.rmtree(self.directory)

    def start(self, prefix: Sequence[str] = ()) -> float:
        return super().start(prefix or self._prefix)

    def stop(self) -> None:
        """What it runs under ends with it."""
        for pid in children(self.pid) if self._prefix else [self.pid]:
            os.kill(pid, signal.SIGTERM)
        self.wait(PATIENCE)

    @property
    def root(self) -> int:
        return self.pid

    @property
    def listing(self) -> list[str]:
        return [sys.executable, "-m", "relay", "queue", "list", "-c", str(self.file)]

    @property
    def retrying(self) -> list[str]:
        return [sys.executable, "-m", "relay", "queue", "retry", "--all", "-c", str(self.file)]


class TheirPostfix(Postfix):
    """Postfix as a relay to one next hop."""

    def __init__(self, hop: int, certificate: Path | None = None, prefix: Sequence[str] = ()) -> None:
        super().__init__(relayhost=("127.0.0.1", hop), options=self.fast(hop), patience=PATIENCE)
        if certificate:
            self.options |= self.secure(certificate)
        self._certificate, self._prefix = certificate, prefix
        self._tracer: subprocess.Popen[bytes] | None = None

    @staticmethod
    def fast(hop: int) -> dict[str, str]:
        rates = ("connection_rate", "message_rate", "recipient_rate")
        return {f"smtpd_client_{name}_limit": "0" for name in rates} | {
            "maillog_file": "", "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_client_event_limit_exceptions": "static:all", "default_process_limit": str(SESSIONS),
            "default_destination_concurrency_limit": str(CONCURRENCY),
            "initial_destination_concurrency": str(CONCURRENCY),
            "default_destination_recipient_limit": "1000", "smtpd_recipient_limit": "5000",
            "smtp_connection_cache_destinations": f"[127.0.0.1]:{hop}",
            "qmgr_message_active_limit": "50000", "qmgr_message_recipient_limit": "50000",
            "smtp_tls_security_level": "none", "smtpd_tls_security_level": "none", "smtputf8_enable": "no",
            "minimal_backoff_time": "1h", "queue_run_delay": "1h", "maximal_backoff_time": "2h",
        }  # fmt: skip

    @staticmethod
    def secure(certificate: Path) -> dict[str, str]:
        return {
            "smtpd_tls_security_level": "encrypt", "smtpd_tls_chain_files": str(certificate),
            "smtp_tls_security_level": "encrypt", "smtp_tls_wrappermode": "yes",
            "smtp_tls_connection_reuse": "yes",
        }  # fmt: skip

    def _configure(self) -> None:
        super()._configure()
        path = self.conf / "master.cf"
        wrapped = " -o smtpd_tls_wrappermode=yes" if self._certificate else ""
        text = path.read_text().replace(" 100 smtpd\n", f" {SESSIONS} smtpd{wrapped}\n")
        text = re.sub(
            r"^smtp unix - - n - - smtp$", f"smtp unix - - n - {CONCURRENCY} smtp", text, flags=re.M
        )
        path.write_text(text + "tlsproxy unix - - n - 0 tlsproxy\n")

    def start(self) -> None:
        """Ctrl-C has to wait for it: a master that is just beginning has not yet said who it is."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self) -> None:
        if not self._prefix:
            return super().start()
        self._configure()
        with (self.directory / "log").open("ab") as log:
            command = [*self._prefix, self.program, "-c", str(self.conf), "start-fg"]
            self._tracer = subprocess.Popen(command, stdout=log, stderr=log)
        return self._until(self._greets, "greets")

    def stop(self) -> None:
        super().stop()
        if self._tracer:
            self._tracer.wait(PATIENCE)

    def _greets(self) -> bool:
        """In TLS it does not before it is spoken to: there the first message waits for it."""
        return self.master is not None if self._certificate else super()._greets()

    @property
    def root(self) -> int:
        assert self.master
        return self.master

    @property
    def listing(self) -> list[str]:
        return [found("postqueue"), "-c", str(self.conf), "-p"]

    @property
    def retrying(self) -> list[str]:
        return [found("postqueue"), "-c", str(self.conf), "-f"]
