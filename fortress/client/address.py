"""Where a bank is: ``fortress://host:port,host:port/bank-id``.

Several nodes of one bank may be named, in any order; the client finds the one that is primary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fortress.errors import UsageError

SCHEME = "fortress://"
PORT_DEFAULT = 7611
NODES_MAX = 16
# the same as fortress.config.ID_PATTERN, as a test makes sure; loading all settings for it would cost every command
BANK_PATTERN = r"[a-z][a-z0-9-]{0,31}"

Endpoint = tuple[str, int]
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """A bank and the nodes at which it may be reached.

    Attributes:
        endpoints: (host, port) of each node, as given.
        bank: the bank's id, which the bank must prove to be its own.
    """

    endpoints: tuple[Endpoint, ...]
    bank: str

    def __str__(self) -> str:
        return f"{SCHEME}{','.join(format_endpoint(endpoint) for endpoint in self.endpoints)}/{self.bank}"


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: it is none; the message says what is wrong.
    """
    if not text.startswith(SCHEME):
        raise _wrong(text, f"it begins with {SCHEME!r}")
    nodes, _, bank = text.removeprefix(SCHEME).partition("/")
    if not re.fullmatch(BANK_PATTERN, bank):
        raise _wrong(text, "it ends with '/' and the bank's id")
    names = nodes.split(",")
    if len(names) > NODES_MAX:
        raise _wrong(text, f"it names at most {NODES_MAX} nodes")
    endpoints = [parse_endpoint(name) for name in names]
    return Address(tuple(dict.fromkeys(endpoints)), bank)


def parse_endpoint(text: str) -> Endpoint:
    """Read the address of one node, ``host:port``; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is none.
    """
    match = _NODE.fullmatch(text)
    port = int(match[3] or PORT_DEFAULT) if match else 0
    if match is None or not 0 < port < 65536:
        raise _wrong(text, "a node is a host, or a host and a port from 1 to 65535")
    return match[1] or match[2], port


def format_endpoint(endpoint: Endpoint) -> str:
    """Write the address of one node as :func:`parse_endpoint` reads it."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _wrong(text: str, rule: str) -> UsageError:
    example = "fortress://127.0.0.1:7611,127.0.0.1:7621/a"
    return UsageError(f"{text[:200]!r} is not an address: {rule}, as in {example!r}", {"address": text[:200]})
