"""The relay, sabotaged: 250 goes out when the sync begins, not when it has returned."""

from __future__ import annotations

from faults.single_thread import run

from mailqueue.commit import GroupCommit
from mailqueue.job import Job
from mailqueue.transaction import Transaction

honest = GroupCommit._sync


def sync(self: GroupCommit, jobs: list[Job], tx: Transaction, began: float) -> None:
    for job in jobs:
        self.tell(job.succeed)
    honest(self, [], tx, began)


if __name__ == "__main__":
    setattr(GroupCommit, "_sync", sync)  # noqa: B010  a plain assignment is an error to mypy
    run()
