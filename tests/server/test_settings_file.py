"""Settings are changed in place: what people wrote stays, and what cannot be changed safely is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fortress import config
from fortress.errors import FolderMissing, SettingInvalid, SettingUnknown
from fortress.server.settings_file import change_settings, changed_text


def written(folder: Path, text: str) -> Path:
    (folder / config.FILE_NAME).write_text(text, "utf-8")
    return folder


def test_a_whole_file_keeps_its_comments(tmp_path: Path) -> None:
    """The line that shows a default becomes the value; every other line is as before."""
    before = config.settings_file({"node.bank": "a", "server.port": 7700})
    folder = written(tmp_path, before)
    made = change_settings(folder, {"pair.peer": "10.0.0.2:7613", "server.port": 7701})
    assert (made.pair.peer, made.server.port, made.node.bank) == ("10.0.0.2:7613", 7701, "a")
    after = (folder / config.FILE_NAME).read_text("utf-8")
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert changed == [("port = 7700", "port = 7701"), ('# peer = ""', 'peer = "10.0.0.2:7613"')]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[pair]\npeer = 'x' # mine\n", '[pair]\npeer = "n:1"\n'),
        ("[pair]\n", '[pair]\npeer = "n:1"\n'),
        ("[server]\nport = 1\n", '[server]\nport = 1\n\n[pair]\npeer = "n:1"\n'),
        ("[pair] # two nodes\n#peer = ''\n[server]\n", '[pair] # two nodes\npeer = "n:1"\n[server]\n'),
        ("[server]\n# peer = 1\n[pair]\n", '[server]\n# peer = 1\n[pair]\npeer = "n:1"\n'),
        ("", '\n[pair]\npeer = "n:1"\n'),
    ],
    ids=["line", "no line", "no section", "comment", "other section", "empty"],
)
def test_a_value_finds_its_place(before: str, after: str) -> None:
    """In its own section, wherever that stands."""
    assert changed_text(before, "pair.peer", "n:1") == after


def test_the_same_again_writes_nothing(tmp_path: Path) -> None:
    """A second call finds the file as it is to be."""
    folder = written(tmp_path, '[pair]\npeer = "n:1"\n')
    before = (folder / config.FILE_NAME).stat()
    change_settings(folder, {"pair.peer": "n:1"})
    assert (folder / config.FILE_NAME).stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "text",
    ["pair = { peer = 'x:1' }\n", '[pair]\npeer = """\nx:1"""\n', "[pair]\n'peer' = 'x:1'\n"],
    ids=["inline", "many lines", "quoted"],
)
def test_an_unusual_file_is_left_alone(tmp_path: Path, text: str) -> None:
    """The reader is told what to set by hand."""
    folder = written(tmp_path, text)
    with pytest.raises(SettingInvalid, match='set by hand: pair.peer = "n:1"'):
        change_settings(folder, {"pair.peer": "n:1"})
    assert (folder / config.FILE_NAME).read_text("utf-8") == text


def test_wrong_values_change_nothing(tmp_path: Path) -> None:
    """Neither an unknown setting nor a value that it does not take; and a folder must be there."""
    folder = written(tmp_path, "[server]\nport = 7700\n")
    for values, error in (({"pair.per": "n:1"}, SettingUnknown), ({"server.port": 70_000}, SettingInvalid)):
        with pytest.raises(error):
            change_settings(folder, values)
    assert (folder / config.FILE_NAME).read_text("utf-8") == "[server]\nport = 7700\n"
    with pytest.raises(FolderMissing):
        change_settings(tmp_path / "none", {"server.port": 1})
