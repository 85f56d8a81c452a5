"""Letters sent one by one, each with its reply looked at."""

from __future__ import annotations

from contextlib import closing
from random import Random

from faults.campaign import Campaign
from faults.client import Answer, Client, Gone
from faults.letter import letter

CLOSED = "421 "  # what a relay says, and what a client makes of it when it says nothing


class Hand:
    """accepted: letters answered 250."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._count = 0
        self.accepted = 0

    def send(self, count: int, size: int = 1000) -> list[int]:
        """The replies to so many letters on one connection."""
        client = Client(self._campaign.relay.smtp_port)
        try:
            return [self.one(client, size).code for _ in range(count)]
        finally:
            client.close()

    def one(self, client: Client, size: int = 1000) -> Answer:
        self._count += 1
        made = letter(f"by-hand{self._count}", Random(self._count), size=size)
        answer = self._campaign.load.send(client, made)
        self.accepted += answer.code == 250
        return answer

    def until_refused(self, most: int, size: int = 1000) -> str:
        """The text of the first reply that is not 250, CLOSED for none; AssertionError when all are."""
        try:
            with closing(Client(self._campaign.relay.smtp_port)) as client:
                for _ in range(most):
                    answer = self.one(client, size)
                    if answer.code != 250:
                        return answer.text
        except Gone:
            return CLOSED
        raise AssertionError(f"{most} letters were accepted")

    def gets_nothing(self, count: int = 3) -> bool:
        """Is no letter answered 250? A relay that is ending may also be gone."""
        try:
            return 250 not in self.send(count)
        except Gone:
            return True
