"""How often a message is waited for on the disk, and what a slower disk costs."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import process
from bench.bed import Effort, bed
from bench.load import Load
from bench.programs import found
from bench.relays import Kind
from bench.throughput import Raw, measured

CALLS = "fsync,fdatasync,sync_file_range,syncfs,sync,msync"
DELAY = 10  # ms after each of them


def syncs(kind: Kind, effort: Effort, load: Load) -> Raw:
    """Calls a message, of all processes, checkpoints included; strace looks on from the warm-up's end."""
    with bed(kind, effort) as made, tempfile.NamedTemporaryFile(prefix="bench-") as log:
        load = made.warm(load)
        with counting(made.server.root, log.name):
            measured(made, load)
        calls = total(Path(log.name).read_text())
    return {"messages": load.messages, "syncs": calls / load.messages}


@contextmanager
def counting(root: int, log: str) -> Iterator[None]:
    """strace -c on a process and all below it, those to come too."""
    pids = process.tree(root)
    attach = [word for pid in pids for word in ("-p", str(pid))]
    command = [found("strace"), "-f", "-c", "-qq", "-o", log, "-e", f"trace={CALLS}", *attach]
    with subprocess.Popen(command, process_group=0) as tracer:
        try:
            deadline = time.monotonic() + 30
            while not all(traced(pid) for pid in pids):
                if time.monotonic() > deadline or tracer.poll() is not None:
                    raise TimeoutError("strace does not look on")
                time.sleep(0.01)
            yield
        finally:
            tracer.terminate()


def traced(pid: int) -> bool:
    """All its threads; also when it has ended."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if "TracerPid:\t0\n" in (task / "status").read_text():
                return False
    except (FileNotFoundError, ProcessLookupError):
        pass
    return True


def total(table: str) -> int:
    """Calls in strace's summary: `% time, seconds, usecs/call, calls, errors, syscall`."""
    rows = [line.split() for line in table.splitlines()]
    return sum(int(row[3]) for row in rows if len(row) >= 5 and row[-1] in CALLS.split(","))


def slow_sync(kind: Kind, effort: Effort, load: Load) -> Raw:
    """plain, slowed: messages/s under strace, without and with a delay after each sync; kept: their ratio."""
    rates = []
    for delay in ("", f":delay_exit={DELAY * 1000}"):
        inject = ["-e", f"inject={CALLS}{delay}"] if delay else []
        prefix = [
            found("strace"), "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}",
            "-e", "signal=none", *inject,
        ]  # fmt: skip
        with bed(kind, effort, prefix=prefix) as made:
            raw = measured(made, made.warm(load))
        if raw["lost"]:
            raise ValueError(f"{raw['lost']:g} messages are missing")
        rates.append(raw["rate"])
    plain, slowed = rates
    return {"plain": plain, "slowed": slowed, "kept": slowed / plain}
