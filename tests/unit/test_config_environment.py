"""RELAY__SECTION__KEY variables over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.load import load
from relay.config.model import Config
from relay.config.problem import ConfigErrors


def written(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    """The configuration that `text` gives."""
    file = tmp_path / "relay.yaml"
    file.write_text(text)
    return load(file, environ or {}, lambda: "relay.example.com")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """Text, numbers, lists, items of lists; what is not in the file is added."""
    environ = {
        "RELAY__HOSTNAME": "env.example.com",
        "RELAY__LIMITS__SESSIONS": "7",
        "RELAY__RETRY__GIVE_UP": "2d",
        "RELAY__TRUSTED_NETWORKS": '[10.0.0.0/8, "::1"]',
        "RELAY__ADMIN__ADDRESS": "[::1]:9525",
        "RELAY__ROUTES__0__VIA": "smtp.example.net:587",
        "RELAY__ROUTES__1__TO": "[b.example]",
        "RELAY__ORIGIN": "",
        "RELAY_OTHER": "x",
        "PATH": "/bin",
    }
    text = "limits: {sessions: 5, hops: 9}\norigin: example.com\nroutes:\n  - {name: a, via: mx}\n"
    config = written(tmp_path, text, environ)
    assert (
        config.hostname,
        config.limits.sessions,
        config.limits.hops,
        config.origin,
    ) == ("env.example.com", 7, 9, "")
    assert (config.retry.give_up, config.trusted_networks) == (172800.0, ("10.0.0.0/8", "::1"))
    assert config.admin.address == "[::1]:9525"
    assert [(each.name, each.via) for each in config.routes] == [
        ("a", ("smtp.example.net:587",)),
        ("2", "mx"),
    ]
    assert config.routes[1].to == ("b.example",)


def test_more_than_ten_items_keep_their_order() -> None:
    environ = {f"RELAY__DNS__SERVERS__{place}": f"192.0.2.{place + 1}" for place in range(12)}
    assert load(None, environ).dns.servers[10] == "192.0.2.11"


def test_one_item_behind_an_alias_is_changed_alone(tmp_path: Path) -> None:
    text = "routes:\n  - &one {to: [a.example]}\n  - *one\n"
    config = written(tmp_path, text, {"RELAY__ROUTES__1__CONCURRENCY": "3"})
    assert [route.concurrency for route in config.routes] == [20, 3]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("RELAY__LIMITS__SESSIONS", "many", "limits.sessions: 'many' is not a whole number"),
        ("RELAY__LIMIT__SESSIONS", "5", "limit: unknown key; write limits"),
        ("RELAY__ROUTES__3__VIA", "mx", "the list has 0 items; write 0 to add one"),
        ("RELAY__SPOOL__X", "1", "what is above 'x' is one value"),
        ("RELAY__SPOOL__0", "1", "what is above 0 is no list"),
        ("RELAY__ROUTES__A", "1", "what is above 'a' is a list"),
        ("RELAY__", "1", "an empty part in the name"),
        ("RELAY__DNS__SERVERS", "[", "where a list is wanted"),
        ("RELAY__DNS__SERVERS", "[a, [}]", "missing"),
        ("RELAY__MX", "{port: 1, port: 2}", "written twice"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str, says: str) -> None:
    """The place of the problem is the variable."""
    with pytest.raises(ConfigErrors) as caught:
        written(tmp_path, "spool: /a\nroutes: []\n", {variable: value})
    assert [variable] == [problem.file for problem in caught.value.problems]
    assert says in str(caught.value)


@pytest.mark.parametrize("secret", ["12345", "true", "null", "~", "[a", "[a]", "{x: y}", " a ", "0x1F", "*a"])
def test_a_secret_is_text_whatever_it_looks_like(tmp_path: Path, secret: str) -> None:
    """A password of digits alone is one; quotes would belong to it."""
    text = "routes:\n  - {via: a.example, username: u}\n"
    (route,) = written(tmp_path, text, {"RELAY__ROUTES__0__PASSWORD": secret}).routes
    assert route.password and route.password.get_secret_value() == secret
