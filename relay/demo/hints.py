"""What --stay proposes to try by hand, in lines of less than 80 columns that can be pasted."""

from __future__ import annotations

import sys
from pathlib import Path

from relay.demo.cast import CAST, SENDER

HINTS = """
Still running; Ctrl-C ends it. In another terminal, in this directory:

  export RELAY_CONFIG={directory}/relay.yaml

  # The queue is empty now. Hand in a mail that waits {pause:g} s, and look at it:
  echo Subject: hello | curl -sS smtp://{smtp} -T - \\
    --mail-from {sender} --mail-rcpt {slow} && \\
    {relay} queue list

  # Where would a mail go? What does Prometheus see, what is in the log?
  {relay} explain {busy}
  curl http://{admin}/metrics
  tail -f {directory}/relay.log

Next hops:
{hops}
"""


def hints(relay: str, smtp: str, admin: str | None, directory: Path) -> str:
    """relay: the command; smtp, admin: the addresses of the running relay; directory: where its files are."""
    slow = max(CAST, key=lambda letter: letter.pause)
    busy = max(CAST, key=lambda letter: letter.tries)
    return HINTS.format(
        directory=directory, smtp=smtp, admin=admin, relay=relay, sender=SENDER,
        pause=slow.pause, slow=slow.recipient, busy=busy.recipient,
        hops="\n".join(f"  {letter.domain:<16}{letter.hop}" for letter in CAST),
    )  # fmt: skip


def relay_command(python: Path | None = None, here: Path | None = None) -> str:
    """How to call this relay from here: the script beside the Python that runs, or that Python itself."""
    python, here = python or Path(sys.executable), here or Path.cwd()
    script = python.with_name("relay")
    return short(script, here) if script.exists() else f"{short(python, here)} -m relay"


def short(path: Path, here: Path) -> str:
    """Relative when it is below here."""
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
