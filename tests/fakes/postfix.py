"""A real Postfix in a directory of its own, on a loopback port: a destination, or a relay that sends on.

    with Postfix(domains=["example.com"]) as postfix:      # accepts everything for them into Maildirs
        ... postfix.port ... postfix.wait(2000) ... postfix.mail()
    with Postfix(relayhost=("127.0.0.1", relay.smtp_port)) as postfix:   # hands everything to the relay
        ...

Needs root (Postfix gives its processes users of their own). Nothing of the machine's own Postfix is used but
its programs; an empty main.cf is made where the machine has none, for the set-gid tools.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from fakes.ports import ReservedPort
from fakes.tools import require_root, require_tool

POLL = 0.02
MASTER = """\
{listen} inet n - n - 100 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - 20 virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """domains: whose mail is delivered to Maildirs here; relayhost: where the rest goes (else it is refused).

    options: more of main.cf.
    """

    def __init__(
        self,
        domains: Sequence[str] = (),
        relayhost: tuple[str, int] | None = None,
        options: dict[str, str] | None = None,
        patience: float = 30.0,
    ) -> None:
        self.program = require_tool("postfix", "postfix")
        require_root("Postfix changes its users")
        self.domains, self.relayhost, self.options = domains, relayhost, options or {}
        self.patience = patience
        # not below pytest's directories: those are closed to Postfix's users
        self.directory = Path(tempfile.mkdtemp(prefix="postfix-"))
        self.directory.chmod(0o755)
        self._reserved = ReservedPort()
        self.port = self._reserved.port

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._reserved.close()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        """Returns when it greets."""
        self._configure()
        self._run(self.program, "-c", str(self.conf), "start")
        self._until(self._greets, "greets")

    def stop(self) -> None:
        """Ends the master, which ends its processes; waits until it is gone."""
        master = self.master
        if master is None:
            return
        os.kill(master, signal.SIGTERM)
        try:
            self._until(lambda: not Path(f"/proc/{master}").exists(), "stopped")
        except AssertionError:
            os.killpg(master, signal.SIGKILL)
            raise

    @property
    def master(self) -> int | None:
        """The pid of the running master."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = int((self.directory / "spool/pid/master.pid").read_text())
            return pid if Path(f"/proc/{pid}").exists() else None
        return None

    @property
    def conf(self) -> Path:
        return self.directory / "conf"

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # --- what it got

    def mail(self) -> list[bytes]:
        """Every delivered message as its Maildir file holds it: LF line ends, Postfix's headers on top."""
        return [path.read_bytes() for path in self.directory.glob("mail/*/new/*")]

    def count(self) -> int:
        return sum(sum(1 for _ in path.iterdir()) for path in self.directory.glob("mail/*/new"))

    def wait(self, count: int, seconds: float = 60.0) -> None:
        """Until that many messages lie in the Maildirs; AssertionError when they do not."""
        self._until(lambda: self.count() >= count, f"holds {count}", seconds)

    # --- setting up

    def _configure(self) -> None:
        for name in ("conf", "spool", "data", "mail"):
            (self.directory / name).mkdir(exist_ok=True)
        shutil.chown(self.directory / "data", "postfix")
        shutil.chown(self.directory / "mail", "nobody")
        main = self._main()
        (self.conf / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
        (self.conf / "master.cf").write_text(MASTER.format(listen=f"127.0.0.1:{self.port}"))
        for name in ("dynamicmaps.cf", "postfix-files"):
            if Path("/etc/postfix", name).exists():
                shutil.copy(Path("/etc/postfix", name), self.conf)
        if not Path("/etc/postfix/main.cf").exists():
            Path("/etc/postfix/main.cf").write_text("compatibility_level = 3.6\n")

    def _main(self) -> dict[str, str]:
        nobody = pwd.getpwnam("nobody")
        main = {
            "compatibility_level": "3.6",
            "queue_directory": f"{self.directory}/spool", "data_directory": f"{self.directory}/data",
            "command_directory": "/usr/sbin", "daemon_directory": "/usr/lib/postfix/sbin",
            "mail_owner": "postfix", "setgid_group": "postdrop",
            "maillog_file": f"{self.directory}/log", "maillog_file_prefixes": str(self.directory),
            "myhostname": "postfix.example", "mydomain": "example", "myorigin": "postfix.example",
            "mydestination": "", "local_recipient_maps": "", "alias_maps": "", "alias_database": "",
            "local_transport": "error:no local mail", "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8", "disable_dns_lookups": "yes", "smtpd_peername_lookup": "no",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_client_connection_count_limit": "0", "smtpd_error_sleep_time": "0", "in_flow_delay": "0",
            "message_size_limit": "0", "mailbox_size_limit": "0", "virtual_mailbox_limit": "0",
            "virtual_mailbox_domains": ", ".join(self.domains), "virtual_mailbox_maps": "static:all/",
            "virtual_mailbox_base": f"{self.directory}/mail",
            "virtual_uid_maps": f"static:{nobody.pw_uid}", "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "default_transport": "error:5.7.1 not here",
        }  # fmt: skip
        if self.relayhost:
            host, port = self.relayhost
            main |= {"relayhost": f"[{host}]:{port}", "default_transport": "smtp"}
            main["smtpd_relay_restrictions"] = "permit_mynetworks, reject_unauth_destination"
        return main | self.options

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                return connection.recv(512).startswith(b"220")
        except OSError:
            return False

    def _until(self, condition: Callable[[], bool], what: str, seconds: float | None = None) -> None:
        deadline = time.monotonic() + (seconds or self.patience)
        while not condition():
            assert time.monotonic() < deadline, f"Postfix: not {what} in time:\n{self.log[-2000:]}"
            time.sleep(POLL)

    def _run(self, *command: str) -> None:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}{self.log}"
