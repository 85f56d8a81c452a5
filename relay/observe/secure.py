"""The events of TLS with clients, and of the certificate shown to them."""

from __future__ import annotations

import time

from relay.observe import labels
from relay.observe.log import INFO, WARNING
from relay.observe.recorder import Recorder


class TlsEvents(Recorder):
    """`client` is "name[address]", `listener` the configured address; policy: starttls or implicit."""

    def tls(self, direction: str, version: str, policy: str, result: str) -> None:
        """direction: in, out; version: as OpenSSL says it, "none" without a session; result: ok, failed."""
        known = version if version in labels.TLS_VERSIONS else labels.OTHER
        self.metrics.tls.inc((direction, known, policy, result))

    def tls_started(self, listener: str, client: str, policy: str, version: str, cipher: str) -> None:
        """A handshake with a client is done."""
        self.tls("in", version, policy, "ok")
        text = f"TLS connection established from {client}: {version} with cipher {cipher}"
        self.log.write(
            INFO, "smtpd", "tls", text, client=client, listener=listener, version=version, cipher=cipher
        )

    def tls_failed(self, listener: str, client: str, policy: str, reason: str) -> None:
        """A handshake with a client failed, or took too long; the connection is closed."""
        self.tls("in", "none", policy, "failed")
        text = f"TLS handshake with {client} failed: {reason}"
        self.log.write(
            INFO, "smtpd", "tls_failed", text, client=client, listener=listener, policy=policy, reason=reason
        )

    def certificate(self, file: str, ends: float, now: float, renewed: bool) -> None:
        """This certificate is shown from now on. ends, now: seconds since the epoch; renewed: it took the
        place of another."""
        self.metrics.certificate_ends.set((), ends)
        if renewed:
            self.metrics.certificate_reloads.inc(("ok",))
        day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(ends))
        facts = {"file": file, "not_after": ends}
        if ends < now:
            text = f"warning: the certificate {file} expired on {day} UTC: renew it"
            self.log.write(WARNING, "smtpd", "certificate", text, **facts)
        else:
            text = f"the certificate {file} is shown, valid until {day} UTC"
            self.log.write(INFO, "smtpd", "certificate", text, **facts)

    def certificate_kept(self, reason: str) -> None:
        """The files were changed and cannot be used as they are; the old certificate is still shown."""
        self.metrics.certificate_reloads.inc(("failed",))
        text = f"warning: the old certificate stays in use: {reason}"
        self.log.write(WARNING, "smtpd", "certificate_kept", text, reason=reason)
