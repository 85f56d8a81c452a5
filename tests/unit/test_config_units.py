"""Durations and sizes, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.units import format_duration, format_size, parse_duration, parse_size


@given(st.integers(min_value=0, max_value=3650 * 86_400_000))
def test_durations_round_trip(milliseconds: int) -> None:
    assert milliseconds / 1000 == pytest.approx(parse_duration(format_duration(milliseconds / 1000)))


@given(st.integers(min_value=0, max_value=2**60))
def test_sizes_round_trip(octets: int) -> None:
    assert octets == parse_size(format_size(octets))


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("50MiB", 52428800),
        ("1 GiB", 2**30),
        ("10MB", 10**7),
        ("1.5KiB", 1536),
        ("7", 7),
        ("7B", 7),
        ("1tib", 2**40),
    ],
)
def test_sizes(text: str, octets: int) -> None:
    assert octets == parse_size(text)


@pytest.mark.parametrize("text", ["", "-1s", "1 s 2", "5M", "m", "1h30", "4000d", "1e3s", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "-1", "5M", "MiB", "1e3", "99999999TiB", "1..5KiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_size(text)
