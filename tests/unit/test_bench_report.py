"""The bench's arithmetic: ratios inside pairs, medians over them, what is wanted and what was missed."""

from __future__ import annotations

import json

from bench.report import Figure, Measured, Pair, brief, doubts, missed, record, table

RATE = Figure("rate", "messages/s", True, ratio=3)
CPU = Figure("cpu", "CPU", False, 2, ratio=1 / 5)
SYNCS = Figure("syncs", "syncs", False, 2, value=0.15)
PAIRS: tuple[Pair, ...] = (
    {"relay": {"rate": 3000, "cpu": 0.5}, "postfix": {"rate": 1000, "cpu": 2.0}},
    {"relay": {"rate": 4000, "cpu": 0.25}, "postfix": {"rate": 500, "cpu": 2.5}},
    {"relay": {"rate": 1000, "cpu": 0.5}, "postfix": {"rate": 800, "cpu": 3.0}},
)


def smalld(*figures: Figure, pairs: tuple[Pair, ...] = PAIRS) -> Measured:
    return Measured("smalld", "1 KB", figures, pairs)


def test_ratios_are_taken_inside_the_pairs() -> None:
    """3.0, 8.0 and 1.25 times: the median is 3.0, while the medians' ratio would be 3.75."""
    written = json.loads(json.dumps(record([smalld(RATE, CPU)], {"cores": 2}, {"tls": "no haproxy"})))
    assert (written["machine"], written["left_out"]) == ({"cores": 2}, {"tls": "no haproxy"})
    scenario = written["scenarios"]["smalld"]
    assert scenario["ratio"]["rate"] == {"median": 3, "least": 1.25, "most": 8}
    assert scenario["ratio"]["cpu"] == {"median": 1 / 6, "least": 0.1, "most": 0.25}
    assert scenario["median"] == {"relay": {"rate": 3000, "cpu": 0.5}, "postfix": {"rate": 800, "cpu": 2.5}}
    assert scenario["pairs"] == [dict(pair) for pair in PAIRS]


def test_the_table_says_it_in_words() -> None:
    """Medians, least and most; less than one is a fraction."""
    lines = list(table([smalld(RATE, CPU)]))
    assert lines[2:] == [
        "| smalld | messages/s | 3,000 (1,000-4,000) | 800 (500-1,000) | 3.00 times (1.25-8.00) "
        "| >= 3 times |",
        "|  | CPU | 0.50 (0.25-0.50) | 2.50 (2.00-3.00) | 1/6.00 (1/10.00-1/4.00) | <= 1/5 |",
    ]
    assert all(line.count("|") == 7 for line in lines)


def test_the_brief_tables_have_medians_alone() -> None:
    """The median ratios of a rate and its cost; the median figures of what has not both."""
    pairs: tuple[Pair, ...] = tuple({"relay": {"syncs": n / 10}, "postfix": {"syncs": 1}} for n in (3, 1, 2))
    syncs = Measured("syncs", "counted", (SYNCS,), pairs)
    assert list(brief([smalld(RATE, CPU), syncs])) == [
        "| load | messages a second, end to end | CPU a message |",
        "|---|---|---|",
        "| 1 KB | 3.00 times | 1/6.00 |",
        "",
        "| | relay | Postfix |",
        "|---|---|---|",
        "| counted: syncs | 0.20 | 1.00 |",
    ]


def test_the_relay_alone_has_no_ratio() -> None:
    """Without Postfix the cells are empty, nothing of a ratio is judged, and the record is whole."""
    alone = smalld(RATE, SYNCS, pairs=({"relay": {"rate": 5, "syncs": 0.25}},))
    assert list(table([alone]))[2:] == [
        "| smalld | messages/s | 5 |  |  | >= 3 times |",
        "|  | syncs | 0.25 |  |  | <= 0.15 |",
    ]
    scenario = record([alone], {}, {})["scenarios"]["smalld"]
    assert scenario["ratio"] == {} and scenario["median"] == {"relay": {"rate": 5, "syncs": 0.25}}
    assert list(missed([alone])) == ["smalld: syncs: 0.25, wanted <= 0.15"]


def test_what_is_missed() -> None:
    """A median on the limit is good; one beside it is named, in the direction that the figure has."""
    assert list(missed([smalld(RATE, Figure("cpu", "CPU", False, 2, ratio=1 / 6))])) == []
    more = Figure("rate", "messages/s", True, ratio=3.5)
    less = Figure("cpu", "CPU", False, 2, ratio=1 / 7)
    assert list(missed([smalld(more, less)])) == [
        "smalld: messages/s: 3, wanted >= 3.5 times",
        "smalld: CPU: 0.167, wanted <= 1/7",
    ]


def test_doubts_are_told() -> None:
    """Somebody else on the machine, lost mail and duplicates."""
    pairs: tuple[Pair, ...] = (
        {"relay": {"others": 0.1, "lost": 0, "twice": 2}, "postfix": {"others": 0.5, "lost": 1, "twice": 0}},
    )
    assert list(doubts([smalld(RATE, pairs=pairs)])) == [
        "smalld: in 1 of 2 runs others used over 0.2 cores",
        "smalld: relay: 2 recipients twice",
        "smalld: postfix: 1 recipients lost",
    ]
    assert list(doubts([smalld(RATE)])) == []
