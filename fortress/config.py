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
from fortress.sections import ID_PATTERN as ID_PATTERN
from fortress.sections import CommitterSettings as CommitterSettings
from fortress.sections import GatewaySettings as GatewaySettings
from fortress.sections import KeysSettings as KeysSettings
from fortress.sections import LedgerSettings as LedgerSettings
from fortress.sections import LoginSettings as LoginSettings
from fortress.sections import LogSettings as LogSettings
from fortress.sections import MonitorSettings as MonitorSettings
from fortress.sections import NodeSettings as NodeSettings
from fortress.sections import PairSettings as PairSettings
from fortress.sections import Rule as Rule
from fortress.sections import ServerSettings as ServerSettings
from fortress.sections import SwitchSettings as SwitchSettings
from fortress.sections import TlsSettings as TlsSettings
from fortress.sections import Value as Value
from fortress.sections import WebSettings as WebSettings
from fortress.sections import WitnessSettings as WitnessSettings

FILE_NAME = "fortress.toml"
VARIABLE_PREFIX = "FORTRESS_"


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
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    switch: SwitchSettings = field(default_factory=SwitchSettings)
    witness: WitnessSettings = field(default_factory=WitnessSettings)
    web: WebSettings = field(default_factory=WebSettings)
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
