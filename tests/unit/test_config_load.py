"""The loader: defaults, what YAML text means, names, warnings, and never a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import schema
from relay.config.cautions import warnings
from relay.config.document import plain_scalar, read
from relay.config.load import load, own_name
from relay.config.model import Config, Limits, Listener, Mx, Retry, Rewrite, Route, Tls
from relay.config.problem import ConfigErrors, dotted
from relay.config.syntax import Unreadable

NAMED = Config(hostname="relay.example.com")


def written(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    """The configuration that `text` gives."""
    file = tmp_path / "relay.yaml"
    file.write_text(text)
    return load(file, environ or {}, lambda: "relay.example.com")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "\ufeff", "routes:\nmx:\nlimits: {}\n"])
def test_an_empty_file_gives_the_defaults(tmp_path: Path, text: str) -> None:
    """The relay starts on an empty file; empty sections and lists are empty."""
    assert NAMED.model_copy() == written(tmp_path, text)


def test_without_a_file_there_are_the_defaults() -> None:
    assert load(None, {}, lambda: "relay.example.com") == NAMED


def test_everything_at_once(tmp_path: Path) -> None:
    """Durations become seconds, sizes octets, one `via` a tuple; `no` and `off` are text."""
    config = written(
        tmp_path,
        """
hostname: mail.example.com
listeners:
  - {address: "[::1]:2525", tls: off, auth: off}
routes:
  - name: no
    to: [Example.org, "*.example.org"]
    from: ["@corp.example", "<>"]
    via: smtp.example.net:587
  - via: "capture:/var/tmp/mail"
  - via: ["smtps://smtp2.example.net", "192.0.2.1"]
retry: {schedule: [90s, 1h30m], give_up: 1w, warn_after: never, cap: 1.5h}
limits: {message_size: 10MB, spool_reserve: 4096}
delivery: {ip: 4, source_address: 192.0.2.7}
shutdown_timeout: 0
""",
    )
    assert config.listeners[0] == Listener(address="[::1]:2525", tls="off", auth="off")
    assert [route.name for route in config.routes] == ["no", "2", "3"]
    assert config.routes[0].via == ("smtp.example.net:587",)
    assert config.routes[1].via == "capture:/var/tmp/mail"
    assert config.routes[0].from_ == ("@corp.example", "<>")
    assert (
        config.retry.schedule,
        config.retry.give_up,
        config.retry.warn_after,
        config.retry.cap,
    ) == ((90.0, 5400.0), 604800.0, None, 5400.0)
    assert (config.limits.message_size, config.limits.spool_reserve) == (10_000_000, 4096)
    assert (config.delivery.ip, config.shutdown_timeout) == ("4", 0.0)


def test_a_warning_delay_is_read(tmp_path: Path) -> None:
    assert written(tmp_path, "retry: {warn_after: 4h}").retry.warn_after == 4 * 3600.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("off", "off"), ("yes", "yes"), ("22:22", "22:22"), ("0600", "0600"), ("+5", "+5"),
        ("2026-11-21", "2026-11-21"), ("0x10", "0x10"), ("1_000", "1_000"), (".5", ".5"), ("-0", 0),
        ("12", 12), ("true", True), ("False", False), ("NULL", None), ("~", None), ("", None),
        ("9" * 30, "9" * 30), ("1e3", 1000.0), ("-2.50", -2.5), ("2.", "2."), (".inf", ".inf"),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_json(text: str, value: object) -> None:
    """Only what JSON calls a number is one; huge integers stay text."""
    assert (value, type(value)) == (plain_scalar(text), type(plain_scalar(text)))


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    """Values are counted as often as aliases use them."""
    lines = ["a: &a [" + ",".join("1" * 10) + "]"]
    lines += [
        f"{this}: &{this} [{','.join(['*' + before] * 10)}]"
        for before, this in zip("abcdef", "bcdefg", strict=True)
    ]
    with pytest.raises(ConfigErrors, match="more than 100000 values"):
        written(tmp_path, "\n".join(lines))


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="larger than 1 MiB"):
        written(tmp_path, "#" * (1 << 20) + "\n")


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"none\.yaml: there is no such file"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigErrors, match="is a directory"):
        load(tmp_path, {})


@given(st.text(alphabet="ab:-[]{}*&!#'\"|>%@`?,\n \t<", max_size=60))
def test_no_text_crashes_the_reader(text: str) -> None:
    """Whatever stands in the file, it is a tree or one Unreadable."""
    try:
        read(text)
    except Unreadable as error:
        assert error.text


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4
)


@given(ANYTHING, st.sampled_from([dotted(path) for path, _ in schema.all_keys()]))  # fmt: skip
def test_no_value_of_any_key_crashes_the_loader(
    tmp_path_factory: pytest.TempPathFactory, value: object, key: str
) -> None:
    """Every key with any value: a configuration or ConfigErrors whose lines name a place."""
    nested: object = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    if isinstance(nested, dict):
        for name in ("routes", "listeners"):
            nested = {name: [nested[name]]} if name in nested and isinstance(nested[name], dict) else nested
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(json.dumps(nested))
    try:
        load(file, {}, lambda: "relay.example.com")
    except ConfigErrors as errors:
        assert all(each.text and each.line for each in errors.problems)


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("relay.example.com", "relay.example.com"),
        ("Relay.Example.com.", "relay.example.com"),
        ("build7", "build7.localdomain"),
        ("my_host.example.com", "my-host.localdomain"),
        ("localhost", "relay.localdomain"),
        ("localhost.localdomain", "relay.localdomain"),
        ("", "relay.localdomain"),
        ("127.0.0.1", "127.localdomain"),
        ("-_-", "relay.localdomain"),
    ],
)
def test_the_default_hostname_is_a_full_name(found: str, name: str) -> None:
    assert name == own_name(found)


def test_a_machine_without_a_full_name_is_warned_about() -> None:
    config = load(None, {}, lambda: "build7")
    assert [text.partition(":")[0] for text in warnings(config)] == ["hostname"]


def rules(*patterns: str) -> tuple[Rewrite, ...]:
    return tuple(Rewrite(from_=pattern, to="ops@example.com") for pattern in patterns)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (Config(routes=(Route(via="capture:/tmp/x"),)), "routes.0"),
        (Config(routes=(Route(via="a.example"), Route(to=("b.example",)))), "routes.1"),
        (Config(rewrite=rules("a@X.example", "a@b.example", "A@x.example")), "rewrite.2"),
        (Config(rewrite=rules("@*", "a@x.example")), "rewrite.1"),
        (Config(rewrite=(Rewrite(from_="a@x.example", to="b@x.example", header=True),)), "rewrite.0.header"),
        (
            Config(rewrite=rules("a@*.example"), routes=(Route(from_=("<>", "@b.example", "A@b.example")),)),
            "routes.0.from",
        ),
        (Config(tls=Tls(certificate=Path("/a.crt"), key=Path("/a.key"))), "tls.certificate"),
        (Config(limits=Limits(sessions=5)), "limits.sessions_per_client"),
        (Config(limits=Limits(recipients=10)), "limits.recipients"),
        (Config(limits=Limits(message_size=1000)), "limits.message_size"),
        (Config(retry=Retry(give_up=600.0)), "retry.give_up"),
    ],
)
def test_what_is_odd_but_allowed_is_a_warning(config: Config, key: str) -> None:
    named = config.model_copy(update={"hostname": "relay.example.com"})
    assert [key] == [text.partition(":")[0] for text in warnings(named)]


def test_the_defaults_have_no_warning() -> None:
    assert warnings(NAMED) == []


def test_built_in_python_numbers_are_seconds_and_octets() -> None:
    """Tests and tools build the model without a file: no unit is needed, names are filled in."""
    config = Config(
        retry=Retry(schedule=(0.5,), give_up=3.0), routes=(Route(from_=("<>",)),), mx=Mx(port=2525)
    )
    assert (config.retry.schedule, config.retry.give_up) == ((0.5,), 3.0)
    assert config.routes[0].name == "1"


def test_international_names_become_ascii(tmp_path: Path) -> None:
    """What the relay itself puts into addresses must not need SMTPUTF8 of anybody."""
    config = written(tmp_path, "origin: b\u00fccher.example\npostmaster: Ops@b\u00fccher.example\n")
    assert (config.origin, config.postmaster) == ("xn--bcher-kva.example", "Ops@xn--bcher-kva.example")
    assert written(tmp_path, "origin: Example.COM\n").origin == "Example.COM"


def test_a_next_hop_beside_a_listener_is_no_circle(tmp_path: Path) -> None:
    """The same port on another address of this machine, or elsewhere."""
    hops = ("127.0.0.1:2525", "localhost:2525", "192.0.2.2:2525")
    text = f"listeners: [{{address: '192.0.2.1:2525'}}]\nroutes: [{{via: {list(hops)}}}]\n"
    assert written(tmp_path, text).routes[0].via == hops
