"""The mixed load: clients in threads that send letters until stopped, and an operator beside them.

Every client writes a line before the letter goes out and another when it knows more, each on disk before the
next step: what was promised is known whatever dies. A relay that is down or cuts the connection is met again
after a pause; a letter is never sent twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faults import history
from faults.client import Answer, Client, Gone
from faults.history import Removal, Sent
from faults.letter import Letter, mixed

from relay.cli.daemon import Daemon, NotRunning
from relay.cli.exits import Trouble

PAUSE = 0.02  # s between two letters of a client, on average
AWAY = 0.02  # s until a relay that is down is tried again
ACTIONS = ("hold", "hold", "release", "retry", "retry", "drop")  # of the operator, one at a time
MEANT = 5  # letters that an operator's action names

Make = Callable[[str, random.Random], Letter]


class Load:
    """Logs: `sent` and `removals` in `directory`. acked: letters answered 250 so far.

    name: the letters' ids begin with it; address: of the clients. waits: seconds from the first try to
    connect to the answer to EHLO; took: from MAIL to 250.
    """

    def __init__(
        self,
        port: int,
        spool: Path,
        directory: Path,
        seed: int,
        *,
        clients: int = 4,
        make: Make = mixed,
        pause: float = PAUSE,
        operator: bool = True,
        name: str = "",
        address: str = "127.0.0.1",
    ) -> None:
        self.sent = directory / "sent"
        self.removals = directory / "removals"
        self.acked = 0
        self.waits: list[float] = []
        self.took: list[float] = []
        self.trouble: list[str] = []  # what should never happen here: a bug of the load
        self._port, self._spool, self._seed = port, spool, seed
        self._make, self._pause = make, pause
        self._name, self._address = name, address
        self._lock = threading.Lock()
        self._recent: list[str] = []  # queue ids that an operator may name
        self._stopping = threading.Event()
        self._turns = [threading.Lock() for _ in range(clients + 1)]  # of each thread, held while it acts
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._client, number), daemon=True)
            for number in range(clients)
        ]
        if operator:
            self._threads.append(
                threading.Thread(target=self._guarded, args=(self._operator, clients), daemon=True)
            )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def rest(self) -> None:
        """Returns when nobody waits for an answer; nobody asks for anything until resume()."""
        for turn in self._turns:
            assert turn.acquire(timeout=60)

    def resume(self) -> None:
        for turn in self._turns:
            turn.release()

    def stop(self) -> None:
        """Returns when every client knows the fate of its last letter, or never will."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self.trouble, self.trouble

    def _guarded(self, work: Callable[[int, random.Random], None], number: int) -> None:
        try:
            work(number, random.Random(f"{self._seed} {number}"))
        except Exception as error:  # shown by stop()
            self.trouble.append(f"{work.__name__}: {error!r}")

    # --- a client

    def _client(self, number: int, rng: random.Random) -> None:
        count, wanted = 0, time.monotonic()
        while not self._stopping.is_set():
            try:
                client = Client(self._port, self._address)
            except Gone:
                if self._stopping.wait(AWAY):
                    self.waits.append(time.monotonic() - wanted)
                continue
            self.waits.append(time.monotonic() - wanted)
            try:
                for _ in range(rng.randint(1, 50)):
                    if self._stopping.wait(rng.random() * 2 * self._pause):
                        break
                    count += 1
                    with self._turns[number]:
                        self.send(client, self._make(f"{self._name}{number}x{count}", rng))
            except Gone:
                pass  # the letter in hand has no answer: so it stands in the log
            finally:
                client.close()
                wanted = time.monotonic()

    def send(self, client: Client, letter: Letter) -> Answer:
        """Delivers one letter, with its lines in the log. Gone: the connection ended."""
        answer, begun = Answer(), time.monotonic()
        self._log(letter, Answer(letter.recipients))
        try:
            client.deliver(letter, answer)
        finally:
            if not answer.recipients and not answer.refused:
                answer.recipients = letter.recipients
            self._log(letter, answer)
        if answer.code == 250:
            with self._lock:
                self.acked += 1
                self.took.append(time.monotonic() - begun)
                self._recent = [*self._recent[-100:], answer.queue_id]
        return answer

    def _log(self, letter: Letter, answer: Answer) -> None:
        sent = Sent(
            letter.id, letter.digest, letter.sender, answer.recipients, answer.refused, answer.code,
            answer.queue_id, time.time(),
        )  # fmt: skip
        with self._lock:
            history.append(self.sent, sent)

    # --- the operator

    def _operator(self, number: int, rng: random.Random) -> None:
        while not self._stopping.wait(rng.random() * 0.2):
            with self._turns[number]:
                self._act(rng)

    def _act(self, rng: random.Random) -> None:
        with self._lock:
            names = rng.sample(self._recent, min(MEANT, len(self._recent)))
        action = rng.choice(ACTIONS)
        if action == "drop":
            self._drop(rng)
        elif action == "release":
            operate(self._spool, {"command": action, "states": ["hold"]})
        elif names:
            operate(self._spool, {"command": action, "ids": names})

    def _drop(self, rng: random.Random) -> None:
        """One of what is on hold. What is about to be removed is written down before it is asked for."""
        rows = operate(self._spool, {"command": "list", "states": ["hold"]}) or []
        letters = [row["queue_id"] for row in rows if row.get("sender", "").endswith("@sender.example")]
        if letters:
            name = rng.choice(letters)
            self.removing(name)
            operate(self._spool, {"command": "drop", "ids": [name]})

    def removing(self, queue_id: str) -> None:
        """To be said before a `drop`."""
        history.append(self.removals, Removal(queue_id, time.time()))


def operate(spool: Path, request: Mapping[str, object]) -> list[dict[str, Any]] | None:
    """Asks the relay at its control socket; None: it is not there, or ended before it had answered."""
    try:
        daemon = Daemon(spool)
    except (NotRunning, Trouble):
        return None
    try:
        return list(daemon.ask(request))
    except Trouble:
        return None
    finally:
        daemon.close()
