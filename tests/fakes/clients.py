"""The clients people send with, over TLS and with a login: smtplib, swaks, curl, msmtp, nodemailer.

    to = Submission("127.0.0.1", port, implicit=False, mechanism="PLAIN", ca=path)
    CLIENTS["swaks"](to, ["a@example.com"])

Each sends MESSAGE and verifies the server's certificate; a failure is an AssertionError with what it said.
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fakes.tools import require_module, require_tool

SENDER = "app@sender.example"
BODY = "hello over TLS\r\n.a line that begins with a dot\r\n"
MESSAGE = (
    f"From: <{SENDER}>\r\nTo: all: ;\r\nDate: Thu, 26 Nov 2026 00:54:05 +0000\r\n"
    f"Message-ID: <1@sender.example>\r\nSubject: a test\r\n\r\n{BODY}"
)
NODE = """\
const mail = JSON.parse(process.env.MAIL);
require('nodemailer').createTransport(mail.transport).sendMail(mail.message)
    .then(() => process.exit(0), error => { console.error(error); process.exit(1); });
"""


@dataclass(frozen=True)
class Submission:
    """Where and how a client hands its mail in. mechanism: "PLAIN" or "LOGIN"."""

    host: str
    port: int
    implicit: bool
    mechanism: str
    ca: Path
    user: str
    password: str


def _smtplib(to: Submission, recipients: Sequence[str]) -> None:
    context = ssl.create_default_context(cafile=str(to.ca))
    opened = (
        smtplib.SMTP_SSL(to.host, to.port, timeout=30, context=context)
        if to.implicit
        else smtplib.SMTP(to.host, to.port, timeout=30)
    )
    with opened as client:
        if not to.implicit:
            client.starttls(context=context)
        client.ehlo()
        client.user, client.password = to.user, to.password
        login = client.auth_plain if to.mechanism == "PLAIN" else client.auth_login
        code, _ = client.auth(to.mechanism, login)
        assert code == 235
        client.sendmail(SENDER, list(recipients), MESSAGE.encode())


def _swaks(to: Submission, recipients: Sequence[str]) -> None:
    require_module("perl -MNet::SSLeay -e 1", "libnet-ssleay-perl")
    _run([
        require_tool("swaks", "swaks"), "--server", f"{to.host}:{to.port}", "--from", SENDER,
        "--to", ",".join(recipients), "--tls-on-connect" if to.implicit else "--tls",
        "--tls-verify", "--tls-ca-path", str(to.ca), "--auth", to.mechanism,
        "--auth-user", to.user, "--auth-password", to.password, "--data", "-", "--no-strip-from",
    ], MESSAGE)  # fmt: skip


def _curl(to: Submission, recipients: Sequence[str]) -> None:
    scheme = "smtps" if to.implicit else "smtp"
    _run([
        require_tool("curl", "curl"), "--silent", "--show-error", "--url", f"{scheme}://{to.host}:{to.port}",
        "--ssl-reqd", "--cacert", str(to.ca), "--login-options", f"AUTH={to.mechanism}",
        "--user", f"{to.user}:{to.password}", "--mail-from", SENDER, "--upload-file", "-",
        *(word for recipient in recipients for word in ("--mail-rcpt", recipient)),
    ], MESSAGE)  # fmt: skip


def _msmtp(to: Submission, recipients: Sequence[str]) -> None:
    _run([
        require_tool("msmtp", "msmtp"), "--file=/dev/null", f"--host={to.host}", f"--port={to.port}",
        "--tls=on", f"--tls-starttls={'off' if to.implicit else 'on'}", f"--tls-trust-file={to.ca}",
        f"--auth={to.mechanism.lower()}", f"--user={to.user}",
        "--passwordeval=printenv MSMTP_PASSWORD", f"--from={SENDER}", "--", *recipients,
    ], MESSAGE, {"MSMTP_PASSWORD": to.password})  # fmt: skip


def _nodemailer(to: Submission, recipients: Sequence[str]) -> None:
    node = require_tool("node", "nodejs")
    require_module("node -r /usr/share/nodejs/nodemailer -e 1", "node-nodemailer")
    transport = {
        "host": to.host, "port": to.port, "secure": to.implicit, "requireTLS": True,
        "auth": {"user": to.user, "pass": to.password}, "authMethod": to.mechanism,
        "tls": {"ca": to.ca.read_text()},
    }  # fmt: skip
    message = {"envelope": {"from": SENDER, "to": list(recipients)}, "raw": MESSAGE}
    mail = json.dumps({"transport": transport, "message": message})
    _run([node, "-e", NODE], "", {"MAIL": mail, "NODE_PATH": "/usr/share/nodejs"})


def _run(command: Sequence[str], text: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, input=text.encode(), capture_output=True, timeout=60, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


CLIENTS: dict[str, Callable[[Submission, Sequence[str]], None]] = {
    "smtplib": _smtplib,
    "swaks": _swaks,
    "curl": _curl,
    "msmtp": _msmtp,
    "nodemailer": _nodemailer,
}
