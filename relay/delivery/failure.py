"""OpenFailed, and how what comes out of a phase of an opening becomes one."""

from __future__ import annotations

import os
import ssl

import aiosmtplib

from relay.delivery import verdict
from relay.delivery.reply_reader import clean
from relay.delivery.verdict import Ruling, Trouble
from relay.outcome import Deferred
from relay.reply import Reply


class OpenFailed(Exception):
    """No session with this target. The lane goes to the next target; when all fail it is suspended.

    reply, host, stage: for Deferred(reply, host, stage); stage is where it ended, one of outcome.STAGES.
    kind: the reason to suspend, one of events.SUSPEND_REASONS. fault: it is the route's own fault (a kind of
    labels.FAULT_REASONS) and stands until something changes; passing: or for seconds. stamps: of the files
    the secret came from. connected: somebody answered.
    """

    def __init__(self, stage: str, reply: Reply, kind: str, host: str, *, fault: bool = False) -> None:
        super().__init__(f"{host}: {stage}: {reply.line}")
        self.stage, self.reply, self.kind, self.host = stage, reply, kind, host
        self.fault, self.passing = fault, False
        self.stamps: tuple[object, ...] | None = None
        self.connected = stage != "connect"

    @classmethod
    def of(cls, stage: str, ruling: Ruling, host: str) -> OpenFailed:
        """ruling: of a refusal, or of trouble; never permanent before MAIL."""
        assert isinstance(ruling.outcome, Deferred)
        failure = cls(stage, ruling.outcome.reply, ruling.lane, host, fault=ruling.fault)
        failure.passing = ruling.passing
        return failure

    @property
    def greeted(self) -> bool:
        """It got past the greeting (at most 2 such sessions in one attempt)."""
        return self.connected and self.stage != "greeting"


def judge(stage: str, error: Exception, seconds: float, host: str) -> tuple[str, Ruling]:
    """(stage, ruling) for what came out of a phase that had `seconds`. SSLError and TimeoutError are
    OSErrors."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = clean(error.message.encode("utf-8", "surrogateescape"))
        if error.code >= 0:
            return stage, verdict.on_reply(stage, error.code, text, host)
        return stage, verdict.on_trouble(stage, Trouble.NONSENSE, text, host)
    cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else error
    if stage == "starttls" or isinstance(cause, ssl.SSLError) or _no_name(stage, cause):
        text = f"TLS handshake failed: {words(cause or error, seconds)}"
        return "starttls", verdict.on_trouble("starttls", Trouble.TLS, text, host)
    if isinstance(cause, aiosmtplib.SMTPServerDisconnected):
        text = f"the host closed the connection before the {stage} was complete"
        return stage, verdict.on_trouble(stage, Trouble.EOF, text, host)
    trouble = Trouble.TIMEOUT if isinstance(cause, TimeoutError) else Trouble.REFUSED
    return stage, verdict.on_trouble(stage, trouble, f"{stage}: {words(cause or error, seconds)}", host)


def _no_name(stage: str, cause: BaseException | None) -> bool:
    """A name that fits no certificate is a ValueError of the handshake."""
    return isinstance(cause, ValueError) and stage != "auth"


def words(error: BaseException, seconds: float) -> str:
    """What happened, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()  # error.strerror is "Connect call failed" for all of them
    return str(error) or type(error).__name__
