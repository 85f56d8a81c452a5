"""What the big smarthosts document about themselves: `preset: NAME` on a route fills these keys in.

Only what a provider's own public page says stands here; where it gives no number the usual default holds.
What the route says itself wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["office365", "gmail", "ses", "sendgrid"]


@dataclass(frozen=True, slots=True)
class Preset:
    """via: None where the host differs from account to account; `where` then says how it is written. rate,
    concurrency, messages_per_connection: None where nothing is documented. All of them want verified TLS."""

    via: str | None
    where: str = ""
    rate: str | None = None
    concurrency: int | None = None
    messages_per_connection: int | None = None

    def values(self) -> dict[str, object]:
        """The keys that it fills in."""
        keys = {
            "via": (self.via,) if self.via else None,
            "tls": "verify",
            "rate": self.rate,
            "concurrency": self.concurrency,
            "messages_per_connection": self.messages_per_connection,
        }
        return {key: value for key, value in keys.items() if value is not None}


PRESETS: dict[PresetName, Preset] = {
    # Microsoft, "Message storage and concurrent connection throttling for SMTP Authenticated Submission":
    # 30 messages per minute; up to three concurrent connections, else "432 4.3.2 Concurrent connections limit
    # exceeded". Both for each mailbox. (10,000 recipients a day are no rate.)
    # https://learn.microsoft.com/en-us/exchange/troubleshoot/send-emails/smtp-submission-improvements
    "office365": Preset("smtp.office365.com:587", rate="30/min", concurrency=3),
    # Google, "IMAP, POP, and SMTP": smtp.gmail.com, port 587 with STARTTLS; no limit by minute or connection.
    # https://developers.google.com/workspace/gmail/imap/imap-smtp
    # Google, "Route outgoing SMTP relay messages through Google": another host, smtp-relay.gmail.com:587, to
    # be written as `via`; limits by day and by ten minutes that depend on the account, none by minute or
    # connection. https://support.google.com/a/answer/2956491
    "gmail": Preset("smtp.gmail.com:587"),
    # Amazon, "Connecting to an Amazon SES SMTP endpoint": a host for each region, port 587 with STARTTLS, TLS
    # required. https://docs.aws.amazon.com/ses/latest/dg/smtp-connect.html
    # Amazon, "Errors related to the sending quotas for your Amazon SES account": messages a second, another
    # number for each account ("454 Throttling failure: Maximum sending rate exceeded"), so `rate` is the
    # user's to write. https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html
    # Amazon, "Amazon SES SMTP Recommendations": a new connection after a fixed number of messages; which one
    # is left open. https://aws.amazon.com/blogs/messaging-and-targeting/amazon-ses-smtp-recommendations/
    "ses": Preset(None, where="email-smtp.REGION.amazonaws.com:587"),
    # Twilio SendGrid, "Integrating with the SMTP API": smtp.sendgrid.net, port 587 with TLS; up to 5,000
    # messages a connection; 10,000 concurrent connections from a server, more than we ever open.
    # https://www.twilio.com/docs/sendgrid/for-developers/sending-email/integrating-with-the-smtp-api
    "sendgrid": Preset("smtp.sendgrid.net:587", messages_per_connection=5000),
}
