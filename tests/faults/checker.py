"""The one checker of all campaigns. Pure: a History in, Findings out.

Its rules, by number:
1. Each (letter, recipient) with a 250 is in exactly one of: delivered, bounced, queued, removed by operator,
   named by salvage as lost.
2. Delivered bytes are the sent bytes below our Received header.
3. A letter answered 5xx, or a recipient that was refused, never appears. One with no answer or 4xx may.
4. What is there twice was in flight at a fault, once for each repetition, and was counted by the metric; the
   metric counts all that was in flight at a fault, and no more than that.
5. Nothing is delivered or bounced that was never sent.
6. Quarantine is empty unless bytes at rest were changed.

`python -m faults.checker FILE` judges a history.json again.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faults.history import Arrival, History, Notice, Sent, Waiting

SHOWN = 20  # violations in the report that is read by people
TOLD = 200  # violations that get their history


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule. history: everything known about the letter, in the order of time."""

    rule: int
    id: str
    text: str
    history: tuple[str, ...] = ()


@dataclass(slots=True)
class Findings:
    """figures: accepted, delivered, bounced, queued, removed, named count (letter, recipient) with a 250."""

    figures: dict[str, int]
    violations: list[Violation] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.violations

    def rules(self) -> set[int]:
        return {violation.rule for violation in self.violations}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [", ".join(f"{count} {name}" for name, count in self.figures.items())]
        for violation in self.violations[:SHOWN]:
            lines.append(f"rule {violation.rule}: {violation.id}: {violation.text}")
            lines += [f"    {line}" for line in violation.history]
        if len(self.violations) > SHOWN:
            lines.append(f"... and {len(self.violations) - SHOWN} more")
        lines.append(f"{len(self.violations)} violations" if self.violations else "no violation")
        return "\n".join(lines)


def check(history: History) -> Findings:
    return _Check(history).run()


@dataclass(slots=True)
class _Fates:
    """What became of one recipient of one letter."""

    delivered: int = 0
    bounced: set[str] = field(default_factory=set)  # queue ids of the notices
    queued: int = 0
    removed: bool = False
    named: bool = False

    @property
    def names(self) -> list[str]:
        """removed and named are not one beside others: a drop that came too late changes nothing, and of a
        damaged message some recipients may have got it."""
        found = [("delivered", self.delivered), ("bounced", self.bounced), ("queued", self.queued)]
        named = [name for name, there in found if there]
        return named or [name for name in ("removed", "named") if getattr(self, name)][:1]


class _Check:
    def __init__(self, history: History) -> None:
        self.history = history
        self.suspected = Counter(name for fault in history.faults for name in fault.in_flight or ())
        self.all_known = all(fault.in_flight is not None for fault in history.faults)
        self.fates: dict[tuple[str, str], _Fates] = defaultdict(_Fates)
        self.entries: dict[str, set[str]] = defaultdict(set)  # letter -> its queue ids
        self.repeated = 0
        self.violations: list[Violation] = []

    def run(self) -> Findings:
        self.collect()
        for letter in self.history.sent.values():
            self.judge(letter)
        for arrival in self.history.arrivals:
            self.judge_arrival(arrival)
        for notice in self.history.notices:
            self.judge_origin(notice)
        self.judge_repetitions()
        self.judge_metric()
        self.judge_quarantine()
        self.violations.sort(key=lambda violation: violation.rule)
        return Findings(self.figures(), self.violations)

    def blame(self, rule: int, letter: str, text: str, *queue_ids: str) -> None:
        names = {letter, *self.entries.get(letter, ()), *queue_ids}
        told = tuple(story(self.history, names)) if len(self.violations) < TOLD else ()
        self.violations.append(Violation(rule, letter, text, told))

    def collect(self) -> None:
        for letter in self.history.sent.values():
            if letter.queue_id:
                self.entries[letter.id].add(letter.queue_id)
        entries: list[Arrival | Waiting] = [*self.history.arrivals, *self.history.waiting]
        for item in entries:
            self.entries[item.id].add(item.queue_id)
            for recipient in item.recipients:
                fates = self.fates[item.id, recipient]
                fates.delivered += isinstance(item, Arrival)
                fates.queued += isinstance(item, Waiting)
        for notice in self.history.notices:
            for recipient in notice.recipients:
                self.fates[notice.id, recipient].bounced.add(notice.queue_id)
        self.collect_ends()

    def collect_ends(self) -> None:
        """What was taken from the queue by an operator, or named by salvage."""
        removed = {removal.queue_id for removal in self.history.removals}
        lost = {removal.queue_id for removal in self.history.named}
        for letter in self.history.sent.values():
            for recipient in letter.recipients if letter.queue_id in removed | lost else ():
                self.fates[letter.id, recipient].removed = letter.queue_id in removed
                self.fates[letter.id, recipient].named = letter.queue_id in lost

    # --- rules 1 and 3: one letter

    def judge(self, letter: Sent) -> None:
        for recipient in letter.recipients:
            fates = self.fates[letter.id, recipient]
            if letter.code >= 500:
                if fates.names:
                    self.blame(3, letter.id, f"{recipient}: {fates.names[0]} although answered {letter.code}")
                continue
            if letter.code == 250 and not fates.names:
                self.blame(1, letter.id, f"{recipient}: lost")
            if len(fates.names) > 1 and not self.excused(letter.id):
                self.blame(1, letter.id, f"{recipient}: {' and '.join(fates.names)}")
            if len(fates.bounced) > 1:
                self.blame(1, letter.id, f"{recipient}: bounced by {len(fates.bounced)} notices")
        for recipient in letter.refused:
            if names := self.fates[letter.id, recipient].names:
                self.blame(3, letter.id, f"{recipient}: {names[0]} although the recipient was refused")

    def excused(self, letter: str) -> bool:
        """It was in flight at a fault, so what was done to it may not have been recorded."""
        return not self.all_known or any(self.suspected[name] for name in self.entries[letter])

    # --- rules 2 and 5: one arrival

    def judge_arrival(self, arrival: Arrival) -> None:
        letter = self.judge_origin(arrival)
        if letter is not None and arrival.digest != letter.digest:
            self.blame(2, arrival.id, f"altered: {arrival.digest[:12]} is not {letter.digest[:12]}")

    def judge_origin(self, item: Arrival | Notice) -> Sent | None:
        letter = self.history.sent.get(item.id)
        verb = "delivered" if isinstance(item, Arrival) else "bounced"
        if letter is None:
            self.blame(5, item.id or "?", f"{verb} but never sent", item.queue_id)
        else:
            for recipient in set(item.recipients) - {*letter.recipients, *letter.refused}:
                self.blame(5, item.id, f"{recipient}: {verb} but the letter was never sent there")
        return letter

    # --- rule 4: what is there twice

    def judge_repetitions(self) -> None:
        for letter, queue_ids in self.entries.items():
            if len(queue_ids) > 1:
                self.blame(4, letter, f"queued {len(queue_ids)} times: {', '.join(sorted(queue_ids))}")
        for queue_id, count, letter in self.repetitions():
            self.repeated += count
            if self.all_known and count > self.suspected[queue_id]:
                times = self.suspected[queue_id]
                text = f"repeated {count} times, in flight at {times} faults"
                self.blame(4, letter, text, queue_id)

    def repetitions(self) -> Iterator[tuple[str, int, str]]:
        """queue id, transactions that brought somebody what they had already, letter."""
        seen: dict[str, set[str]] = defaultdict(set)
        repeats: Counter[tuple[str, str]] = Counter()
        came: list[Arrival | Notice] = [notice for notice in self.history.notices if not notice.waiting]
        for item in sorted([*came, *self.history.arrivals], key=lambda item: item.at):
            repeats[item.queue_id, item.id] += not seen[item.queue_id].isdisjoint(item.recipients)
            seen[item.queue_id].update(item.recipients)
        for (queue_id, letter), count in repeats.items():
            if count:
                yield queue_id, count, letter

    def judge_metric(self) -> None:
        faults = self.history.faults
        counted = sum(fault.counted for fault in faults)
        if self.repeated > counted:
            self.blame(4, "all", f"{self.repeated} repeated, the metric counted {counted}")
        for fault in faults:
            leased = len(fault.in_flight or ())
            if 0 < fault.counted < leased:  # 0: the next start did not live to say, a later one does
                self.blame(
                    4, "all", f"{fault.kind}: in flight were {leased}, the metric counted {fault.counted}"
                )
        if self.all_known:
            in_flight = sum(len(fault.in_flight or ()) for fault in faults)
            if counted > in_flight:
                self.blame(4, "all", f"the metric counted {counted}, in flight were {in_flight}")

    # --- rule 6

    def judge_quarantine(self) -> None:
        if any(fault.corrupts for fault in self.history.faults):
            return
        for entry in self.history.waiting:
            if entry.state == "quarantine":
                self.blame(6, entry.id, "in quarantine although nothing was damaged", entry.queue_id)

    def figures(self) -> dict[str, int]:
        sent = self.history.sent.values()
        figures = dict.fromkeys(("accepted", "delivered", "bounced", "queued", "removed", "named"), 0)
        for letter in sent:
            for recipient in letter.recipients if letter.code == 250 else ():
                figures["accepted"] += 1
                for name in self.fates[letter.id, recipient].names[:1]:
                    figures[name] += 1
        figures["letters"] = len(self.history.sent)
        figures["unanswered"] = sum(letter.code == 0 for letter in sent)
        figures["duplicated"] = self.repeated
        figures["possible duplicates"] = sum(fault.counted for fault in self.history.faults)
        figures["faults"] = len(self.history.faults)
        return figures


def story(history: History, names: set[str]) -> list[str]:
    """What happened to a letter (names: its id and queue ids), in the order of time."""
    told: list[tuple[float, str]] = []
    for letter in history.sent.values():
        if letter.id in names:
            told.append((letter.at, f"sent: {letter}"))
    came: list[Arrival | Notice] = [*history.arrivals, *history.notices]
    for item in came:
        if item.id in names or item.queue_id in names:
            told.append((item.at, f"came: {item}"))
    for removal in history.removals:
        if removal.queue_id in names:
            told.append((removal.at, f"dropped: {removal}"))
    for number, fault in enumerate(history.faults, 1):
        if names.intersection(fault.in_flight or ()):
            told.append((fault.at, f"fault {number}: {fault.kind}, in flight"))
    told.sort(key=lambda pair: pair[0])
    left = [f"left: {entry}" for entry in history.waiting if entry.id in names or entry.queue_id in names]
    return [f"{at:.3f} {text}" for at, text in told] + left


def main(path: Path) -> int:
    findings = check(History.from_json(json.loads(path.read_text())))
    print(findings)
    return not findings.clean


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
