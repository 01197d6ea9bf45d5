"""The sections of the settings: a frozen dataclass for each room, one line for each setting.

Part of :mod:`fortress.config`, through which everybody else reaches them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ID_PATTERN = r"[a-z][a-z0-9-]{0,31}"
INT_MAX = 2**31 - 1
MIB = 1024 * 1024

Value = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one setting means and takes.

    Attributes:
        help: what it does, in a sentence without its full stop.
        least: smallest value of a number.
        most: largest value of a number.
        choices: the only texts allowed, if any.
        pattern: regular expression that a text must match as a whole, if any.
        reloadable: whether a running node takes a new value over on SIGHUP.
    """

    help: str
    least: int = 0
    most: int = INT_MAX
    choices: tuple[str, ...] = ()
    pattern: str = ""
    reloadable: bool = False

    def takes(self, kind: type) -> str:
        """Say in words what values are allowed."""
        if kind is int:
            return f"a whole number from {self.least} to {self.most}"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return f"text that matches {self.pattern}" if self.pattern else "text"

    def allows(self, value: Value) -> bool:
        """Tell whether a value of the right kind is within bounds."""
        if isinstance(value, int):
            return self.least <= value <= self.most
        if self.choices:
            return value in self.choices
        return "\0" not in value and (not self.pattern or re.fullmatch(self.pattern, value) is not None)


def number(default: int, help: str, least: int = 0, most: int = INT_MAX, *, reloadable: bool = False) -> int:
    return field(default=default, metadata={"rule": Rule(help=help, least=least, most=most, reloadable=reloadable)})


def text(default: str, help: str, *, choices: tuple[str, ...] = (), pattern: str = "", reloadable: bool = False) -> str:
    rule = Rule(help=help, choices=choices, pattern=pattern, reloadable=reloadable)
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Who this node is."""

    bank: str = text("bank", "the bank's id, part of every journal record and of the certificates", pattern=ID_PATTERN)
    name: str = text("node-1", "this node's name among the nodes of its bank", pattern=ID_PATTERN)
    data_folder: str = text(".", "where journal and tables lie, relative to this file's folder", pattern=".+")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The listener for clients, and the limit of everything that a peer can make grow."""

    host: str = text("127.0.0.1", "address to listen on; 0.0.0.0 or :: for all", pattern=r"\S+")
    port: int = number(7611, "port to listen on; 0 takes a free one", 0, 65535)
    connections_max: int = number(4096, "connections open at a time; further ones are closed", 1, reloadable=True)
    connections_per_address_max: int = number(1024, "connections open at a time from one address", 1, reloadable=True)
    paths: str = text(
        *("", "addresses of gateways and load balancers, several with commas; no limit by address holds for them"),
        pattern=r"([0-9A-Fa-f:.]+(, ?[0-9A-Fa-f:.]+)*)?",
        reloadable=True,
    )
    handshake_s: int = number(10, "seconds from the first byte to a finished handshake", 1, 300, reloadable=True)
    idle_s: int = number(900, "seconds without a message after which a connection is closed", 1, 86400, reloadable=True)
    outstanding_max: int = number(1024, "requests of one connection that wait for an answer", 1, 65535, reloadable=True)
    drain_s: int = number(10, "seconds that work under way gets to finish when the node stops", 0, 600, reloadable=True)
    send_buffer_bytes_max: int = number(
        8 * MIB, "bytes that wait for a slow reader before it is cut off", 65536, reloadable=True
    )
    push_rows_max: int = number(
        1000, "entries that wait for one subscriber; one further behind resumes by position", 1, reloadable=True
    )


@dataclass(frozen=True, slots=True)
class CommitterSettings:
    """The group commit."""

    queue_max: int = number(65536, "commands that wait for a commit; more are answered with busy", 1)
    batch_entries_max: int = number(2 * 8190, "entries in one group commit", 8190, 131072)
    unapplied_entries_max: int = number(262144, "entries durable in the journal and not yet in the tables", 8190)


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Journal, tables and caches."""

    segment_bytes: int = number(64 * MIB, "size of a journal segment, preallocated", MIB, 1024 * MIB)
    account_cache_max: int = number(81920, "accounts kept in memory; others are read from the tables", 1024)
    id_cache_max: int = number(131072, "latest transfer ids kept in memory; older ones are looked up", 1024)
    cache_mb: int = number(48, "page cache of the tables in MiB", 1, 65536)
    checkpoint_pages: int = number(32000, "pages in the tables' write-ahead log before it is folded in", 100, 1_000_000)
    id_skew_s: int = number(60, "seconds that the time inside a new id may lie ahead of this clock", 1, 3600)


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """Logins: throttling, lockout, tokens and the cost of guessing a password."""

    failures_before_delay: int = number(3, "failed logins before each further one must wait", 1, 1000, reloadable=True)
    delay_s_max: int = number(30, "longest such wait in seconds; it doubles up to this", 1, 3600, reloadable=True)
    failures_before_lockout: int = number(10, "failed logins in a row that lock the login", 2, 10000, reloadable=True)
    lockout_s: int = number(900, "seconds that a lockout lasts", 1, 604800, reloadable=True)
    token_s: int = number(900, "seconds that a session token is valid", 30, 86400, reloadable=True)
    kdf_memory_kib: int = number(65536, "Argon2id memory of new passwords in KiB", 65536, 1048576)
    kdf_iterations: int = number(3, "Argon2id passes of new passwords", 3, 16)
    kdf_lanes: int = number(4, "Argon2id lanes of new passwords", 1, 16)


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """The page that watches: /status, /metrics and the probes."""

    host: str = text("127.0.0.1", "address of the monitoring site; it asks nobody for a password", pattern=r"\S+")
    port: int = number(7612, "port of the monitoring site; 0 switches it off", 0, 65535)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the node tells on standard error."""

    level: str = text(
        "info", "least level that is logged", choices=("debug", "info", "warning", "error"), reloadable=True
    )
    format: str = text("auto", "auto is console on a terminal and JSON otherwise", choices=("auto", "console", "json"))
    requests: str = text(
        *("refused", "which requests get a line each; bounded per second, what is over is counted"),
        choices=("none", "refused", "all"),
        reloadable=True,
    )


@dataclass(frozen=True, slots=True)
class PairSettings:
    """The other node of this bank, and when it is taken for dead. Without a peer this node is alone."""

    listen: str = text("127.0.0.1:7613", "address on which the other node's records are taken", pattern=r"\S+:[0-9]+")
    peer: str = text("", "address on which the other node takes records; empty for a node alone")
    peer_clients: str = text("", "address at which clients reach the other node")
    cluster: str = text("", "id of the pair, in hexadecimal; both nodes and the register carry the same")
    register: str = text("witness", "who keeps the record of which node is primary", choices=("witness", "etcd"))
    register_addresses: str = text("", "the witness's host:port, or etcd's https://host:port, several with commas")
    register_ca: str = text("", "the authority of the register's certificate; empty: the bank's own, as tls.ca")
    durability: str = text(
        *("available", "without its standby a primary goes on alone, or holds writes until there are two copies"),
        choices=("available", "two-copies"),
        reloadable=True,
    )
    heartbeat_ms: int = number(100, "milliseconds between messages of an idle primary", 10, 10_000)
    solo_ms: int = number(1000, "milliseconds without acknowledgement until the primary goes on alone", 50, 60_000)
    takeover_ms: int = number(3000, "milliseconds of silence after which the standby takes over", 100, 600_000)
    refused_ms: int = number(300, "the same when the primary's process is known to be gone", 50, 600_000)
    lease_ms: int = number(200, "milliseconds that an acknowledgement lets the primary answer reads by itself", 0)
    digest_s: int = number(300, "seconds between comparisons of both nodes' tables; 0: never", 0, 86400)
    hold_s: int = number(10, "seconds that requests are held while no node may take them; then busy", 0, 300)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The gateway through which this bank pays others; without an address it pays within itself only."""

    bank: str = text("gateway", "the gateway's own id, which its certificate must carry", pattern=ID_PATTERN)
    addresses: str = text("", "where the gateway listens for banks, host:port, several with commas; empty: none")
    authority: str = text("certs/gateway-ca.crt", "the authority that signs the gateway's certificates", pattern=".+")
    clients: str = text("", "addresses that other banks' relayed customers may be sent to; empty: as this node listens")
    wait_ms: int = number(10_000, "milliseconds that a payer waits for the outcome before 'not known yet'", 100, 60_000)


@dataclass(frozen=True, slots=True)
class SwitchSettings:
    """What makes this node a gateway: it listens for banks and switches payments between them."""

    listen: str = text("", "address on which banks register; empty: this node is no gateway", pattern=r"(\S+:[0-9]+)?")
    deadline_ms: int = number(20_000, "milliseconds until a payment that is not decided is given up", 100, 600_000)
    relays_max: int = number(2048, "customers relayed to their banks at a time; further ones are closed", 0, 65535)
    relay_wait_ms: int = number(10_000, "milliseconds that a relayed customer waits for the bank's primary", 0, 60_000)
    handshake_s: int = number(5, "seconds that a bank gets to show its certificate", 1, 300)


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """The register that ``fortress witness`` keeps for pairs, in a folder of its own; nodes do not use this section."""

    listen: str = text("127.0.0.1:7614", "address on which a witness listens for nodes", pattern=r"\S+:[0-9]+")
    file: str = text("register", "where a witness keeps what it knows, relative to this file's folder", pattern=".+")
    pairs_max: int = number(256, "pairs that a witness serves", 1, 256)
    connections_max: int = number(256, "connections to a witness open at a time; further ones are closed", 1, 65535)
    handshake_s: int = number(5, "seconds that a node gets to show its certificate to a witness", 1, 300)


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """Where the key-encryption key comes from; without it nobody can read the data."""

    key_file: str = text("keys/node.key", "file of mode 0600 with the key-encryption key", pattern=".+")
    key_command: str = text("", "command that prints that key instead, for a key management service")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates; the files are read again on SIGHUP."""

    certificate: str = text("certs/node.crt", "this node's certificate", pattern=".+")
    key: str = text("certs/node.key", "private key of that certificate, mode 0600", pattern=".+")
    ca: str = text("certs/ca.crt", "the authority whose certificates are trusted", pattern=".+")


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The pages that ``fortress web`` serves; nodes do not use this section."""

    host: str = text("127.0.0.1", "address to listen on for browsers; without TLS only this machine", pattern=r"\S+")
    port: int = number(7680, "port to listen on for browsers; 0 takes a free one", 0, 65535)
    origin: str = text(
        *("", "where browsers find the pages, such as https://bank.example; empty: as it listens"),
        pattern=r"(https://[^/\s?#@]+|http://localhost(:[0-9]+)?)?",
    )
    certificate: str = text("", "certificate for browsers; empty: no TLS here; read again on SIGHUP")
    key: str = text("", "private key of that certificate, mode 0600; read again on SIGHUP")
    bank: str = text("", "the bank, fortress://host:port/id; empty: the one of this folder")
    kind: str = text(
        "bank", "what that other address leads to; a gateway has pages of its own", choices=("bank", "gateway")
    )
    ca: str = text("", "the authority of the bank's certificates; empty: as tls.ca")
    path_ca: str = text("", "the authority of who answers at the address, if that is not the bank: a gateway")
    proxies: str = text(
        *("", "addresses of load balancers in front, with commas; their X-Forwarded-For is believed"),
        pattern=r"([0-9A-Fa-f:.]+(, ?[0-9A-Fa-f:.]+)*)?",
    )
    sessions_max: int = number(1000, "sessions kept connected to the bank at a time; older ones connect again", 1)
    session_idle_s: int = number(120, "seconds without a request after which a session's connection is closed", 1)
    streams_max: int = number(1000, "open streams of events; further ones are refused", 1, 65535)
    streams_per_session_max: int = number(8, "open streams of one session; further ones are refused", 1, 1000)
    connections_max: int = number(4096, "connections of browsers open at a time; further ones are closed", 1, 65535)
    requests_per_s: int = number(50, "requests a second from one address; twenty seconds' worth may come at once", 1)
    ceremonies_per_minute: int = number(30, "logins and the like begun in a minute from one address", 1)
