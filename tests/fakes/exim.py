"""A real Exim in a directory of its own, on loopback: it takes mail from who logs in over TLS, into files.

    with Exim(["example.com"], pair, {"app": "secret"}) as exim:
        ... exim.port              # STARTTLS
        ... exim.tls_port          # TLS from the first octet
        exim.wait(3); exim.mail()

Needs root and the user Debian-exim. Nothing of the machine's own Exim is used but its program, which may lie
unpacked anywhere: Debian's packages of Exim and Postfix exclude each other.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from fakes.certificates import Pair
from fakes.ports import ReservedPort
from fakes.tools import missing, require_root, require_tool

POLL = 0.02
USER = "Debian-exim"


class _Text(string.Template):
    """Exim's own variables begin with "$"."""

    delimiter = "@"


CONFIGURATION = _Text("""\
exim_path = @program
spool_directory = @directory/spool
log_file_path = @directory/log/%slog
pid_file_path = @directory/exim.pid
primary_hostname = exim.example
domainlist local = @domains
local_interfaces = 127.0.0.1
daemon_smtp_ports = @port : @tls_port
tls_on_connect_ports = @tls_port
tls_certificate = @directory/tls.crt
tls_privatekey = @directory/tls.key
tls_advertise_hosts = *
auth_advertise_hosts = ${if def:tls_in_cipher {*}}
host_lookup =
rfc1413_hosts =
helo_lookup_domains =
keep_environment =
disable_ipv6 = true
deliver_drop_privilege = true
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
message_size_limit = 0
check_spool_space = 0
check_spool_inodes = 0
smtputf8_advertise_hosts = *
acl_smtp_mail = accept
acl_smtp_rcpt = from_users
acl_smtp_data = accept
begin acl
from_users:
  deny !encrypted = *
  deny !authenticated = *
  accept domains = +local
begin routers
all:
  driver = accept
  transport = files
begin transports
files:
  driver = appendfile
  maildir_format
  directory = @directory/mail
  user = @user
  envelope_to_add
  return_path_add
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{!eq{$auth3}{}} \
    {eq{$auth3}{${lookup{$auth2}lsearch{@directory/users}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{!eq{$auth2}{}} \
    {eq{$auth2}{${lookup{$auth1}lsearch{@directory/users}}}}}}
  server_set_id = $auth1
""")


class Exim:
    """domains: whose mail it takes; users: name -> password."""

    def __init__(self, domains: Sequence[str], pair: Pair, users: Mapping[str, str]) -> None:
        self.program = require_tool("exim4", "exim4-daemon-light")
        require_root("Exim changes its user")
        try:
            pwd.getpwnam(USER)
        except KeyError:
            missing(f"the user {USER} is missing: the Debian package exim4-daemon-light makes it")
        self._domains, self._pair, self._users = domains, pair, users
        self.directory = Path(tempfile.mkdtemp(prefix="exim-"))
        self.directory.chmod(0o755)
        self._reserved, self._reserved_tls = ReservedPort(), ReservedPort()
        self.port, self.tls_port = self._reserved.port, self._reserved_tls.port
        self._process: subprocess.Popen[bytes] | None = None

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
        self._reserved_tls.close()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        """Returns when it greets."""
        self._configure()
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [self.program, "-C", str(self.directory / "exim.conf"), "-bdf"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._until(self._greets, "greets")

    def stop(self) -> None:
        """Ends the daemon, then what it started: its deliveries are in its session."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    # --- what it got

    def mail(self) -> list[bytes]:
        """Every delivered message as its file holds it: LF line ends, Exim's headers on top."""
        return [path.read_bytes() for path in self.directory.glob("mail/new/*")]

    def wait(self, count: int, seconds: float = 30.0) -> None:
        """Until that many messages are delivered; AssertionError when they are not."""
        self._until(lambda: len(self.mail()) >= count, f"holds {count}", seconds)

    @property
    def log(self) -> str:
        paths = [self.directory / "output", *sorted(self.directory.glob("log/*"))]
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    # --- setting up

    def _configure(self) -> None:
        for name in ("spool", "log", "mail"):
            (self.directory / name).mkdir()
            shutil.chown(self.directory / name, USER, USER)
        users = "".join(f"{name}: {password}\n" for name, password in self._users.items())
        (self.directory / "users").write_text(users)
        for path in self._pair.write(self.directory):
            shutil.chown(path, USER, USER)
        text = CONFIGURATION.substitute(
            program=self.program, directory=self.directory, user=USER, port=self.port,
            tls_port=self.tls_port, domains=" : ".join(self._domains),
        )  # fmt: skip
        (self.directory / "exim.conf").write_text(text)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                return connection.recv(512).startswith(b"220")
        except OSError:
            return False

    def _until(self, condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"Exim: not {what} in time:\n{self.log[-2000:]}"
            time.sleep(POLL)
