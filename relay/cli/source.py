"""Whom a command asks: the running relay, or the spool itself when none runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from relay.cli.daemon import Daemon, NotRunning
from relay.cli.exits import CONFIG, Trouble

if TYPE_CHECKING:
    from relay.config.model import Config


class Source(Protocol):
    """Daemon or Direct."""

    def ask(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]: ...
    def close(self) -> None: ...


def open_source(spool: Path) -> Source:
    """Trouble when neither a daemon answers nor the spool can be opened."""
    try:
        return Daemon(spool)
    except NotRunning:
        from relay.cli.direct import Direct  # SQLite and asyncio, not needed to ask a daemon

        return Direct.open(spool)


def spool_of(args: argparse.Namespace) -> Path:
    """--spool, or what the configuration says. Trouble (EX_CONFIG) with every error of the configuration."""
    if args.spool is not None:
        return Path(args.spool)
    return configuration(args.config).spool


def configuration(path: Path | None) -> Config:
    """The configuration, loaded; Trouble (EX_CONFIG) with all its errors."""
    from relay.config.load import load  # pydantic takes its time
    from relay.config.logins import beside_service
    from relay.config.problem import ConfigErrors

    try:
        return load(path, beside_service(os.environ))
    except ConfigErrors as errors:
        raise Trouble(f"the configuration is wrong:\n{errors}", CONFIG) from None
