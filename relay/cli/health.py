"""`relay health`: is the relay on this machine ready for mail? Asks /readyz where the configuration says.

For a container's health check: 0 when it is ready, 1 with the reason when it is not or nobody answers.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from ipaddress import ip_address

from relay.cli.exits import OK
from relay.cli.source import configuration
from relay.config.address import is_ip, parse_endpoint

PATIENCE = 5.0  # s
NOT_READY = 1


def run(args: argparse.Namespace) -> int:
    """Trouble (EX_CONFIG) when the configuration is wrong."""
    address = configuration(args.config).admin.address
    reason = why_not(*reached(*parse_endpoint(address)))
    if reason:
        print(f"relay: not ready: {reason}", file=sys.stderr)
        return NOT_READY
    print("ready")
    return OK


def reached(host: str, port: int) -> tuple[str, int]:
    """Where to ask: who listens on every address is asked over loopback."""
    if is_ip(host) and ip_address(host).is_unspecified:
        return ("::1" if ":" in host else "127.0.0.1"), port
    return host, port


def why_not(host: str, port: int) -> str:
    """Why no mail should be sent there now; "" when it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        answer = json.load(connection.getresponse())
        return "; ".join(answer["reasons"]) if not answer["ready"] else ""
    except OSError as error:
        return _silence(host, port, error)
    except (ValueError, KeyError, TypeError, http.client.HTTPException):
        return f"what answers at {host} port {port} is not a relay; is admin.address right?"
    finally:
        connection.close()


def _silence(host: str, port: int, error: OSError) -> str:
    """Nobody answers: what that means, and what to do."""
    if isinstance(error, ConnectionRefusedError):
        text = f"nothing listens at {host} port {port} (admin.address): the relay does not run"
        return f"{text}; start it, or name its configuration with -c FILE"
    if isinstance(error, TimeoutError):
        return f"{host} port {port} did not answer within {PATIENCE:.0f} s; the log of the relay may say why"
    why = (error.strerror or str(error)).lower()
    return f"{host} port {port} (admin.address) cannot be asked: {why}; is the address right?"
