"""Settings: one line each, from which file, variable, default, check, explanation and reference page derive.

A section is a frozen dataclass that one room receives whole; nobody else reads the environment or the file. A value
comes from the first of flag, variable, file and default that has one; :attr:`Settings.sources` remembers which. To
add a setting, add its line to the section; nothing else needs to be touched.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType

from fortress.errors import FolderMissing, SettingInvalid, SettingUnknown

FILE_NAME = "fortress.toml"
VARIABLE_PREFIX = "FORTRESS_"
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
    account_cache_max: int = number(98304, "accounts kept in memory; others are read from the tables", 1024)
    id_cache_max: int = number(131072, "latest transfer ids kept in memory; older ones are looked up", 1024)
    cache_mb: int = number(64, "page cache of the tables in MiB", 1, 65536)
    checkpoint_pages: int = number(4096, "pages in the tables' write-ahead log before it is folded in", 100, 1_000_000)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one folder: a section for each room, and where each value came from.

    Attributes:
        folder: the folder of ``fortress.toml``; relative paths in settings start there.
        sources: dotted key -> where its value came from, for keys that have not their default.
    """

    folder: Path
    node: NodeSettings = field(default_factory=NodeSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    committer: CommitterSettings = field(default_factory=CommitterSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    login: LoginSettings = field(default_factory=LoginSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    log: LogSettings = field(default_factory=LogSettings)
    pair: PairSettings = field(default_factory=PairSettings)
    witness: WitnessSettings = field(default_factory=WitnessSettings)
    keys: KeysSettings = field(default_factory=KeysSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def path(self, value: str) -> Path:
        """Give a path out of a setting; a relative one starts at the folder of the file."""
        return self.folder / value

    def value(self, key: str) -> Value:
        """Give the value of a dotted key.

        Raises:
            SettingUnknown: no setting has this name; the message suggests one.
        """
        line = line_of(key)
        value: Value = getattr(getattr(self, line.section), line.name)
        return value


@dataclass(frozen=True, slots=True)
class Line:
    """One setting as declared: its section and name, its rule and its default."""

    section: str
    name: str
    rule: Rule
    default: Value

    @property
    def key(self) -> str:
        """The dotted name, as in ``server.port``."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it; two underscores stand for the dot."""
        return f"{VARIABLE_PREFIX}{self.section.upper()}__{self.name.upper()}"

    @property
    def takes(self) -> str:
        """What values are allowed, in words."""
        return self.rule.takes(type(self.default))

    def check(self, value: object, source: str) -> Value:
        """Give a value as the setting takes it; text from flags and variables becomes a number where one is wanted.

        Raises:
            SettingInvalid: it is of the wrong kind or out of bounds; the message names key, value and what it takes.
        """
        if isinstance(self.default, int) and isinstance(value, str) and source != FILE_NAME:
            value = int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else value
        # a bool is an int in Python and is none here
        if isinstance(value, int | str) and type(value) is type(self.default) and self.rule.allows(value):
            return value
        raise SettingInvalid(
            f"{self.key} = {value!r} ({source}) is not possible: it takes {self.takes}",
            {"key": self.key, "value": str(value), "source": source, "takes": self.takes},
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one setting and its present value, for ``config explain`` and ``config show``.

    Attributes:
        key: dotted name.
        value: the value in force.
        source: the flag, variable or file that gave it, or ``default``.
        default: the value without any.
        help: what it does.
        takes: what values are allowed.
        variable: the environment variable that sets it.
        reloadable: whether SIGHUP takes a new value over.
    """

    key: str
    value: Value
    source: str
    default: Value
    help: str
    takes: str
    variable: str
    reloadable: bool


def _declared() -> Iterator[Line]:
    for section in fields(Settings):
        factory: object = section.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            for item in fields(factory):
                default: Value = getattr(factory(), item.name)
                yield Line(section.name, item.name, item.metadata["rule"], default)


LINES: Mapping[str, Line] = MappingProxyType({line.key: line for line in _declared()})
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(line.section for line in LINES.values()))


def line_of(key: str) -> Line:
    """Find a setting by its dotted key.

    Raises:
        SettingUnknown: no setting has this name; the message suggests the closest.
    """
    if key in LINES:
        return LINES[key]
    from difflib import get_close_matches  # only a mistake needs it

    same_name = [line.key for line in LINES.values() if line.name == key.rpartition(".")[2]]
    close = get_close_matches(key, LINES, n=1, cutoff=0.6) or same_name[:1]
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    raise SettingUnknown(
        f"there is no setting {key!r}{suggestion}", {"key": key, "suggestion": close[0] if close else ""}
    )


def load(folder: Path, flags: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Read the settings of a folder.

    Args:
        folder: holds ``fortress.toml``.
        flags: dotted key -> text, from the command line.
        environment: the process's variables; only ``FORTRESS_SECTION__NAME`` ones count.

    Raises:
        FolderMissing: the folder has no ``fortress.toml``.
        SettingUnknown: a flag, variable or line of the file names no setting.
        SettingInvalid: a value is not what its setting takes, or the file is not TOML.
    """
    values: dict[str, Value] = {}
    sources: dict[str, str] = {}
    for key, value, source in (*_file_values(folder), *_variable_values(environment), *_flag_values(flags)):
        values[key] = line_of(key).check(value, source)
        sources[key] = source
    return _assembled(folder, values, sources)


def reloaded(current: Settings, fresh: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Take over what a running node may change; give also the keys whose change waits for a restart."""
    changed = [key for key in LINES if current.value(key) != fresh.value(key)]
    taken = {key for key, line in LINES.items() if line.rule.reloadable}
    values = {key: (fresh if key in taken else current).value(key) for key in LINES}
    sources = {
        key: origin.sources[key] for key in LINES if key in (origin := fresh if key in taken else current).sources
    }
    return _assembled(current.folder, values, sources), tuple(key for key in changed if key not in taken)


def explain(settings: Settings, key: str) -> Explanation:
    """Tell all about one setting.

    Raises:
        SettingUnknown: no setting has this name.
    """
    line = line_of(key)
    return Explanation(
        key=key,
        value=settings.value(key),
        source=settings.sources.get(key, "default"),
        default=line.default,
        help=line.rule.help,
        takes=line.takes,
        variable=line.variable,
        reloadable=line.rule.reloadable,
    )


def settings_file(values: Mapping[str, Value]) -> str:
    """Write a whole ``fortress.toml``: the given values set, every other setting as a comment with its default.

    Raises:
        SettingUnknown: a key names no setting.
        SettingInvalid: a value is not what its setting takes.
    """
    checked = {key: line_of(key).check(value, FILE_NAME) for key, value in values.items()}
    parts = ["# Settings of one Fortress node. A line that begins with # shows a default.\n"]
    for section in SECTIONS:
        parts.append(f"\n[{section}]\n")
        for line in LINES.values():
            if line.section == section:
                mark = "" if line.key in checked else "# "
                parts.append(f"# {line.rule.help}\n{mark}{line.name} = {_toml(checked.get(line.key, line.default))}\n")
    return "".join(parts)


def reference_table() -> str:
    """Write the reference page of all settings, in Markdown."""
    parts = [
        "# Settings\n\n<!-- made by `make docs` from fortress/config.py -->\n\n"
        "A value comes from the first that has one: flag, environment variable, `fortress.toml`, default. Two\n"
        "underscores in a variable stand for the dot. Settings marked *reload* are taken over by a running node\n"
        "on SIGHUP.\n"
    ]
    for section in SECTIONS:
        parts.append(f"\n## {section}\n\n| setting | default | takes | what it does |\n| --- | --- | --- | --- |\n")
        for line in LINES.values():
            if line.section == section:
                takes = line.takes.replace("|", "\\|")
                reload = " (*reload*)" if line.rule.reloadable else ""
                parts.append(f"| `{line.key}` | `{_toml(line.default)}` | {takes} | {line.rule.help}{reload} |\n")
    return "".join(parts)


def _file_values(folder: Path) -> list[tuple[str, object, str]]:
    file = folder / FILE_NAME
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as exc:
        raise FolderMissing(f"{str(folder)!r} has no {FILE_NAME}", {"folder": str(folder)}) from exc
    except OSError as exc:
        raise SettingInvalid(f"{str(file)!r} cannot be read: {exc.strerror}", {"file": str(file)}) from exc
    except ValueError as exc:
        raise SettingInvalid(f"{str(file)!r} is not a TOML file: {exc}", {"file": str(file)}) from exc
    found: list[tuple[str, object, str]] = []
    for section, table in tables.items():
        if not isinstance(table, dict):
            line_of(section)
        found += [(f"{section}.{name}", value, FILE_NAME) for name, value in table.items()]
        if not table and section not in SECTIONS:
            line_of(f"{section}.")
    return found


def _variable_values(environment: Mapping[str, str]) -> list[tuple[str, object, str]]:
    return [
        (name.removeprefix(VARIABLE_PREFIX).lower().replace("__", ".", 1), value, f"variable {name}")
        for name, value in sorted(environment.items())
        if name.startswith(VARIABLE_PREFIX) and "__" in name
    ]


def _flag_values(flags: Mapping[str, str]) -> list[tuple[str, object, str]]:
    return [(key, value, f"flag {key}") for key, value in flags.items()]


def _assembled(folder: Path, values: Mapping[str, Value], sources: Mapping[str, str]) -> Settings:
    settings = Settings(folder=folder, sources=MappingProxyType(dict(sources)))
    sections = {
        section: replace(
            getattr(settings, section),
            **{LINES[key].name: v for key, v in values.items() if LINES[key].section == section},
        )
        for section in SECTIONS
    }
    return replace(settings, **sections)


def _toml(value: Value) -> str:
    if isinstance(value, int):
        return str(value)
    from json import dumps  # a JSON string is a TOML basic string, but for DEL

    return dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


if __name__ == "__main__":
    print(reference_table(), end="")
