"""A Postfix that takes mail only from who logs in over TLS, as a provider's smarthost does.

    pair = authority().issue("smarthost.test")
    with Smarthost(["example.com"], pair, {"app": "secret"}) as smarthost:
        ... smarthost.port         # STARTTLS, and nothing before it
        ... smarthost.tls_port     # TLS from the first octet
        smarthost.set_password("app", "another")          # at once, without a restart

It checks passwords with Cyrus SASL in a sasldb of its own: PLAIN, LOGIN and CRAM-MD5. Its Received header
says "Authenticated sender: NAME".
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from fakes.certificates import Pair
from fakes.ports import ReservedPort
from fakes.postfix import Postfix
from fakes.tools import require_tool

REALM = "postfix.example"
MECHANISMS = "PLAIN LOGIN CRAM-MD5"
SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {path}
mech_list: {mechanisms}
"""


class Smarthost(Postfix):
    """domains: whose mail it delivers to Maildirs; users: name -> password; options: more of main.cf."""

    def __init__(
        self,
        domains: Sequence[str],
        pair: Pair,
        users: Mapping[str, str],
        *,
        mechanisms: str = MECHANISMS,
        options: dict[str, str] | None = None,
    ) -> None:
        self._saslpasswd = require_tool("saslpasswd2", "sasl2-bin")
        super().__init__(domains, options=options)
        self._pair, self._users, self._mechanisms = pair, users, mechanisms
        self._reserved_tls = ReservedPort()
        self.tls_port = self._reserved_tls.port

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._reserved_tls.close()

    def set_password(self, user: str, password: str) -> None:
        """For a new user as well."""
        subprocess.run(
            [self._saslpasswd, "-p", "-c", "-f", str(self._passwords), "-u", REALM, user],
            input=password, text=True, capture_output=True, timeout=30, check=True,
        )  # fmt: skip
        shutil.chown(self._passwords, "postfix")

    @property
    def logins(self) -> list[str]:
        """Who logged in, once for each message that came of it."""
        lines = (line for line in self.log.splitlines() if ": client=" in line and "sasl_username=" in line)
        return [line.split("sasl_username=")[1].split(",")[0] for line in lines]

    @property
    def _passwords(self) -> str:
        return f"{self.directory}/passwords.db"

    def _configure(self) -> None:
        super()._configure()
        self._pair.write(self.conf)
        text = SASL.format(path=self._passwords, mechanisms=self._mechanisms)
        (self.conf / "sasl").mkdir(exist_ok=True)  # where Debian's Postfix looks, whatever main.cf says
        (self.conf / "sasl/smtpd.conf").write_text(text)
        with (self.conf / "master.cf").open("a") as master:
            wrapped = f"127.0.0.1:{self.tls_port} inet n - n - 100 smtpd -o smtpd_tls_wrappermode=yes\n"
            master.write(wrapped)
        for user, password in self._users.items():
            self.set_password(user, password)

    def _main(self) -> dict[str, str]:
        demanded = {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": f"{self.conf}/tls.crt", "smtpd_tls_key_file": f"{self.conf}/tls.key",
            "smtpd_tls_auth_only": "yes", "smtpd_tls_received_header": "yes", "smtpd_tls_loglevel": "1",
            "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "cyrus", "smtpd_sasl_path": "smtpd",
            "cyrus_sasl_config_path": f"{self.conf}/sasl", "smtpd_sasl_local_domain": REALM,
            "smtpd_sasl_authenticated_header": "yes", "smtpd_sasl_security_options": "noanonymous",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
        }  # fmt: skip
        return super()._main() | demanded | self.options
