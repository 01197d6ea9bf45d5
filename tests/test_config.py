"""Settings: where values come from, what is refused and how, and what derives from one line of source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from fortress.config import (
    LINES,
    SECTIONS,
    Rule,
    Settings,
    explain,
    line_of,
    load,
    reference_table,
    reloaded,
    settings_file,
)
from fortress.errors import FolderMissing, SettingInvalid, SettingUnknown

ROOT = Path(__file__).resolve().parent.parent


def written(folder: Path, content: str = "") -> Path:
    (folder / "fortress.toml").write_text(content, "utf-8")
    return folder


# --- where a value comes from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "environment", "file", "level", "source"),
    [
        ({"log.level": "error"}, {"FORTRESS_LOG__LEVEL": "warning"}, "[log]\nlevel='debug'", "error", "flag log.level"),
        ({}, {"FORTRESS_LOG__LEVEL": "warning"}, "[log]\nlevel='debug'", "warning", "variable FORTRESS_LOG__LEVEL"),
        ({}, {}, "[log]\nlevel='debug'", "debug", "fortress.toml"),
        ({}, {}, "", "info", "default"),
    ],
)
def test_the_first_that_has_a_value_gives_it(
    tmp_path: Path, flags: dict[str, str], environment: dict[str, str], file: str, level: str, source: str
) -> None:
    """Flag, then variable, then file, then default; explain says which it was."""
    settings = load(written(tmp_path, file), flags, environment)
    assert settings.log.level == level
    assert explain(settings, "log.level").source == source


def test_text_from_flags_and_variables_becomes_a_number(tmp_path: Path) -> None:
    """The command line knows only text; a room gets the number."""
    settings = load(written(tmp_path), {"server.port": "7700"}, {"FORTRESS_SERVER__DRAIN_S": "0"})
    assert (settings.server.port, settings.server.drain_s) == (7700, 0)


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    """Only FORTRESS_SECTION__NAME is a setting."""
    settings = load(written(tmp_path), {}, {"FORTRESS_CONTEXT": "x", "HOME": "/", "MY__PORT": "1"})
    assert settings == Settings(folder=tmp_path)


def test_paths_start_at_the_folder(tmp_path: Path) -> None:
    """A relative path belongs to the folder of the file, an absolute one stays."""
    settings = load(written(tmp_path, "[tls]\nca = '/etc/ca.crt'"), {}, {})
    assert settings.path(settings.tls.certificate) == tmp_path / "certs/node.crt"
    assert settings.path(settings.tls.ca) == Path("/etc/ca.crt")


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    """What a room received stays as it is."""
    settings = load(written(tmp_path), {}, {})
    with pytest.raises(FrozenInstanceError):
        setattr(settings.server, "port", 1)  # noqa: B010
    assert not hasattr(settings.sources, "__setitem__")


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "key", "suggestion"),
    [
        ("[server]\nprot = 1", "server.prot", "server.port"),
        ("[sever]\nport = 1", "sever.port", "server.port"),
        ("[sever]", "sever.", "server."),
        ("port = 1", "port", ".port"),
        ("[server.tls]\nca = 'x'", "server.tls", ""),
        ("[log]\nLevel = 'info'", "log.Level", "log.level"),
        ("[node]\nqqqqqqqqqqqqqqqq = 1", "node.qqqqqqqqqqqqqqqq", ""),
    ],
)
def test_an_unknown_key_in_the_file_is_an_error_with_a_suggestion(
    tmp_path: Path, file: str, key: str, suggestion: str
) -> None:
    """A misspelt line is never silently ignored."""
    with pytest.raises(SettingUnknown) as caught:
        load(written(tmp_path, file), {}, {})
    assert caught.value.facts["key"] == key
    assert suggestion in str(caught.value.facts["suggestion"])
    assert repr(key) in caught.value.message


@pytest.mark.parametrize(
    ("flags", "environment"),
    [({"server.prot": "1"}, {}), ({}, {"FORTRESS_SERVER__PROT": "1"})],
    ids=["flag", "variable"],
)
def test_an_unknown_flag_or_variable_is_an_error(
    tmp_path: Path, flags: dict[str, str], environment: dict[str, str]
) -> None:
    """Wherever a name comes from, it must exist."""
    with pytest.raises(SettingUnknown, match=r"did you mean 'server\.port'"):
        load(written(tmp_path), flags, environment)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("[server]\nport = 65536", "server.port"),
        ("[server]\nport = -1", "server.port"),
        ("[server]\nport = '7611'", "server.port"),
        ("[server]\nport = true", "server.port"),
        ("[server]\nport = 7611.0", "server.port"),
        ("[server]\nport = []", "server.port"),
        ("[server]\nhost = 5", "server.host"),
        ("[server]\nhost = ''", "server.host"),
        ("[node]\nbank = 'Bank'", "node.bank"),
        (f"[node]\nbank = 'a{'b' * 32}'", "node.bank"),
        ('[node]\nbank = "a\\n"', "node.bank"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ('[keys]\nkey_command = "a\\u0000b"', "keys.key_command"),
    ],
)
def test_a_bad_value_is_named_with_what_it_takes(tmp_path: Path, file: str, key: str) -> None:
    """The message names key, value, source and what the setting takes."""
    with pytest.raises(SettingInvalid) as caught:
        load(written(tmp_path, file), {}, {})
    assert caught.value.facts["key"] == key
    assert caught.value.facts["source"] == "fortress.toml"
    assert line_of(key).takes in caught.value.message


@pytest.mark.parametrize("value", ["", "x", "7_611", "７６１１", "1" * 30, "7611 ", "0x10"])
def test_a_flag_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    """Only plain digits are a number."""
    with pytest.raises(SettingInvalid, match="flag server.port"):
        load(written(tmp_path), {"server.port": value}, {})


def test_a_folder_without_a_file_holds_no_bank(tmp_path: Path) -> None:
    """The hint then says how to make one."""
    with pytest.raises(FolderMissing, match=r"fortress\.toml"):
        load(tmp_path, {}, {})


@pytest.mark.parametrize("content", [b"[server", b"\xff\xfe", b"[a]\n[a]\n"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    """The message names the file and the place."""
    (tmp_path / "fortress.toml").write_bytes(content)
    with pytest.raises(SettingInvalid, match="not a TOML file"):
        load(tmp_path, {}, {})


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A folder in its place is no file of settings."""
    (tmp_path / "fortress.toml").mkdir()
    with pytest.raises(SettingInvalid, match="cannot be read"):
        load(tmp_path, {}, {})


# --- what derives from one line -------------------------------------------------------------------------------------


def test_every_default_is_within_its_own_bounds() -> None:
    """What nobody sets must be allowed."""
    for line in LINES.values():
        assert line.check(line.default, "default") == line.default, line.key


def test_every_section_of_the_settings_is_declared() -> None:
    """Each section and field has its line, with a sentence of help."""
    sections = {item.name for item in fields(Settings)} - {"folder", "sources"}
    assert sections == set(SECTIONS)
    assert all(line.rule.help and not line.rule.help.endswith(".") for line in LINES.values())


def test_the_written_file_reads_back_as_the_defaults(tmp_path: Path) -> None:
    """A fresh file changes nothing, names every setting and explains it."""
    content = settings_file({})
    assert load(written(tmp_path, content), {}, {}) == Settings(folder=tmp_path)
    assert all(f"# {line.rule.help}\n# {line.name} = " in content for line in LINES.values())


def test_commented_lines_hold_the_defaults(tmp_path: Path) -> None:
    """Taking the mark away from a line sets what was in force anyway."""
    content = "".join(
        line.removeprefix("# ") if " = " in line else line for line in settings_file({}).splitlines(keepends=True)
    )
    settings = load(written(tmp_path, content), {}, {})
    assert {key: settings.value(key) for key in LINES} == {key: line.default for key, line in LINES.items()}
    assert set(settings.sources) == set(LINES)


def test_given_values_are_written_uncommented(tmp_path: Path) -> None:
    """What init decides stands in the file, with odd characters escaped."""
    values: Mapping[str, int | str] = {"node.bank": "a", "server.port": 7700, "keys.key_command": 'k "x" \\ \x7f é'}
    content = settings_file(values)
    assert tomllib.loads(content)["server"] == {"port": 7700}
    settings = load(written(tmp_path, content), {}, {})
    assert {key: settings.value(key) for key in values} == dict(values)


@pytest.mark.parametrize(("key", "value"), [("node.bank", "NO"), ("server.port", "7611")])
def test_nothing_bad_is_written(key: str, value: str) -> None:
    """The writer checks as the reader does."""
    with pytest.raises(SettingInvalid):
        settings_file({key: value})


def test_explain_tells_all_about_a_setting(tmp_path: Path) -> None:
    """Value, source, default, bounds, variable and whether a running node takes a change over."""
    told = explain(load(written(tmp_path, "[server]\nidle_s = 60"), {}, {}), "server.idle_s")
    assert (told.key, told.value, told.source, told.default) == ("server.idle_s", 60, "fortress.toml", 900)
    assert (told.variable, told.takes) == ("FORTRESS_SERVER__IDLE_S", "a whole number from 1 to 86400")
    assert told.reloadable
    assert told.help == LINES["server.idle_s"].rule.help


def test_explaining_an_unknown_setting_suggests_one(tmp_path: Path) -> None:
    """The same suggestion as in the file."""
    with pytest.raises(SettingUnknown, match=r"'log\.level'"):
        explain(Settings(folder=tmp_path), "log.levle")


@pytest.mark.parametrize(
    ("rule", "kind", "words"),
    [
        (Rule(help="x", least=1, most=2), int, "a whole number from 1 to 2"),
        (Rule(help="x", choices=("a", "b")), str, "one of a, b"),
        (Rule(help="x", pattern="a+"), str, "text that matches a+"),
        (Rule(help="x"), str, "text"),
    ],
)
def test_what_a_setting_takes_is_said_in_words(rule: Rule, kind: type, words: str) -> None:
    """Bounds, choices and patterns read as a person would say them."""
    assert rule.takes(kind) == words


def test_the_reference_page_is_up_to_date() -> None:
    """`make docs` was run after the last change of a setting."""
    assert (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8") == reference_table()


def test_every_setting_is_read_by_something() -> None:
    """One that is only declared would be set in vain."""
    declares = {"config.py", "sections.py"}
    paths = [path for path in (ROOT / "fortress").rglob("*.py") if path.name not in declares]
    code = "\n".join(path.read_text("utf-8") for path in paths)
    assert [key for key, line in LINES.items() if not re.search(rf"\.{line.name}\b", code)] == []


# --- reload ---------------------------------------------------------------------------------------------------------


def test_a_running_node_takes_over_only_what_it_may(tmp_path: Path) -> None:
    """Limits and log level change at once; an address waits for a restart and is named."""
    current = load(written(tmp_path, "[server]\nport = 7700\nidle_s = 60"), {}, {})
    fresh = load(written(tmp_path, "[server]\nport = 7800\n[log]\nlevel = 'debug'"), {}, {})
    taken, waiting = reloaded(current, fresh)
    assert (taken.server.port, taken.server.idle_s, taken.log.level) == (7700, 900, "debug")
    assert waiting == ("server.port",)
    assert dict(taken.sources) == {"server.port": "fortress.toml", "log.level": "fortress.toml"}
