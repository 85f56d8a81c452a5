"""`relay user add|remove|list|check`: who may log in, in users_file.

A password is asked for twice on a terminal, or read as one line from standard input; it is no argument, since
everybody on a machine sees those. The relay reads the file again by itself.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import secrets
import sys
from pathlib import Path

from relay.cli.exits import CONFIG, DATA, IO, NO_INPUT, NO_PERMISSION, OK, USAGE, Trouble
from relay.observe.text import plural, printable
from relay.users.editing import Edit, Owner, change, name_of, with_line, without
from relay.users.listing import User, check_name, compile_senders
from relay.users.password import SALT_OCTETS, make_hash, prepared
from relay.users.reading import Reading, read_users, trouble

SHORT = 8  # characters: a password with fewer is warned of (NIST SP 800-63B section 5.1.1)
PASSWORD_LIMIT = 4096  # octets; a line of AUTH holds about 9000


def run(args: argparse.Namespace) -> int:
    """One action; Trouble when it cannot be done."""
    path, spool = _place(args)
    return _ACTIONS[args.action](args, path, spool)


def _place(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """The file, and the spool where a configuration names it."""
    if args.file is not None:
        return args.file, None
    from relay.cli.source import configuration  # pydantic takes its time

    config = configuration(args.config)
    if config.users_file is None:
        where = args.config or "the configuration"
        raise Trouble(f"{where} has no users_file; write users_file: /etc/relay/users, or use --file", CONFIG)
    return config.users_file, config.spool


# --- changes


def _add(args: argparse.Namespace, path: Path, spool: Path | None) -> int:
    name = _name(args.name)
    senders = _senders(args.senders)
    if path.exists() and not args.replace:
        _unknown(name, _known_names(path), path)
    password = _new_password(name)

    def edit(text: str) -> str:
        lines = [line for line in text.split("\n") if name_of(line) == name]
        if lines and not args.replace:
            raise Trouble(_there(name, path), DATA)
        kept = senders if senders is not None else lines[0].split(":", 2)[2:] if lines else ()
        line = ":".join((name, make_hash(password, secrets.token_bytes(SALT_OCTETS)).line, ",".join(kept)))
        return with_line(text, name, line.rstrip(":"))

    existed, known = path.exists(), name in _known_names(path)
    _change(path, edit, _owner(spool))
    print(f"{name}: {'changed' if known else 'added'} in {path}")
    if not existed and _owner(spool) == Owner():
        print(f"{path} is new and its owner's alone; the user of the relay must be able to read it")
    return OK


def _unknown(name: str, known: set[str], path: Path) -> None:
    """Before the password is asked for."""
    if name in known:
        raise Trouble(_there(name, path), DATA)


def _there(name: str, path: Path) -> str:
    return f"{name} is in {path} already; --replace gives a new password"


def _known_names(path: Path) -> set[str]:
    try:
        return set(_read(path).listing.users)
    except Trouble:
        return set()


def _remove(args: argparse.Namespace, path: Path, _: Path | None) -> int:
    name = _name(args.name)

    def edit(text: str) -> str:
        rest = without(text, name)
        if not any(name_of(line) == name for line in text.split("\n")):
            raise Trouble(f"there is no {name} in {path}", NO_INPUT)
        return rest

    if not path.exists():
        raise Trouble(f"there is no {path}", NO_INPUT)
    _change(path, edit, Owner())
    print(f"{name}: removed from {path}; sessions that are open end with their next message")
    return OK


def _change(path: Path, edit: Edit, owner: Owner) -> None:
    try:
        change(path, edit, owner)
    except PermissionError as error:
        text = f"{path}: cannot be replaced: {(error.strerror or str(error)).lower()}; run it as its owner"
        raise Trouble(text, NO_PERMISSION) from None
    except OSError as error:
        raise Trouble(f"{path}: cannot be replaced: {(error.strerror or str(error)).lower()}", IO) from None
    except UnicodeDecodeError:
        raise Trouble(f"{path}: not UTF-8; is it the right file?", DATA) from None


def _owner(spool: Path | None) -> Owner:
    """Of a new file. Made by root, it can be read by the group that owns the spool: that of the relay."""
    if os.geteuid() or spool is None or not spool.is_dir():
        return Owner()
    status = spool.stat()
    return Owner(0o640, status.st_gid) if status.st_uid and status.st_gid else Owner()


# --- looking


def _list(args: argparse.Namespace, path: Path, _: Path | None) -> int:
    reading = _read(path)
    for user in reading.listing.users.values():
        if args.json:
            print(json.dumps({"name": user.name, "senders": list(user.patterns) or None}))
        else:
            print(f"{user.name}  {', '.join(user.patterns) or 'any sender'}")
    if not (reading.listing.users or args.json):
        print("nobody may log in; relay user add NAME adds somebody")
    _remark(reading)
    return OK


def _check(args: argparse.Namespace, path: Path, _: Path | None) -> int:
    """Without a name: is the file good? With one: is this the password?"""
    reading = _read(path)
    if args.name is None:
        _remark(reading)
        wrong = plural(len(reading.listing.problems), "wrong line")
        print(f"{path}: {len(reading.listing.users)} may log in, {wrong}")
        return DATA if reading.listing.problems else OK
    user = reading.listing.users.get(_name(args.name))
    if user is None:
        _remark(reading)
        raise Trouble(f"there is no {printable(args.name)} in {path}", NO_INPUT)
    return _verify(user)


def _verify(user: User) -> int:
    if not user.hash.matches(_ask(f"Password of {user.name}: ")):
        raise Trouble("that is not the password", NO_PERMISSION)
    print("that is the password")
    return OK


def _read(path: Path) -> Reading:
    try:
        return read_users(path)
    except (OSError, ValueError) as error:
        code = NO_PERMISSION if isinstance(error, PermissionError) else NO_INPUT
        hint = "; relay user add NAME makes it" if isinstance(error, FileNotFoundError) else ""
        raise Trouble(f"{trouble(path, error)}{hint}", code) from None


def _remark(reading: Reading) -> None:
    for text in reading.remarks:
        print(f"warning: {text}", file=sys.stderr)


# --- what is given


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise Trouble(f"{printable(text)!r}: {error}", USAGE) from None


def _senders(given: list[str] | None) -> tuple[str, ...] | None:
    """None: not said. "*" alone is any sender."""
    if given is None:
        return None
    patterns = tuple(each.strip() for text in given for each in text.split(","))
    try:
        compile_senders(patterns)
    except ValueError as error:
        raise Trouble(f"--sender: {error}", USAGE) from None
    return () if "*" in patterns else patterns


def _new_password(name: str) -> str:
    password = _ask(f"New password of {name}: ")
    if sys.stdin.isatty() and _ask("Once more: ") != password:
        raise Trouble("the two are not the same; nothing was changed", DATA)
    if not password.isprintable() or not 0 < len(prepared(password)) <= PASSWORD_LIMIT:
        text = f"a password has 1 to {PASSWORD_LIMIT} octets and no control character"
        raise Trouble(f"{text}; nothing was changed", DATA)
    if len(password) < SHORT:
        print(f"warning: a password of under {SHORT} characters is easily guessed", file=sys.stderr)
    return password


def _ask(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    try:
        return sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise Trouble("the password is not UTF-8; nothing was changed", DATA) from None


_ACTIONS = {"add": _add, "remove": _remove, "list": _list, "check": _check}
