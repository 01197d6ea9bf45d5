"""Changing a few settings in a ``fortress.toml`` that people edit too: everything else in it stays as it is.

The change is made line by line, and proved afterwards: read as TOML, the new text must hold what the old one held and
the wanted values. A file written in a way that defeats this is left alone, and the reader is told what to set by hand.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fortress import config
from fortress.config import Settings, Value
from fortress.errors import SettingInvalid
from fortress.server.folder import replace_file

SECTION: Final = re.compile(r"\s*\[([^\]\s]+)\]\s*(#.*)?")


def change_settings(folder: Path, values: Mapping[str, Value]) -> Settings:
    """Set settings in a folder's file; a crash leaves the old file or the new one.

    Returns:
        the settings as the file has them now.

    Raises:
        FolderMissing: there is no such folder.
        SettingUnknown, SettingInvalid: a value is not what its setting takes, or the file cannot be changed safely;
            nothing was changed.
    """
    config.load(folder, {}, {})  # an error that is in the file already is told as it always is
    for key, value in values.items():
        config.line_of(key).check(value, config.FILE_NAME)
    path = folder / config.FILE_NAME
    before = path.read_text("utf-8")
    after = before
    for key, value in values.items():
        after = changed_text(after, key, value)
    if not _proves(before, after, values):
        wanted = ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        raise SettingInvalid(f"{str(path)!r} is written in a way that cannot be changed here; set by hand: {wanted}")
    if after != before:
        replace_file(path, after)
    return config.load(folder, {}, {})


def changed_text(text: str, key: str, value: Value) -> str:
    """Set one value: in its line, in the comment that shows its default, or in a line of its own."""
    section, _, name = key.partition(".")
    line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
    lines = text.splitlines()
    starts = [at for at, each in enumerate(lines) if (found := SECTION.fullmatch(each)) and found[1] == section]
    if not starts:
        return "\n".join([*lines, "", f"[{section}]", line, ""])
    first = starts[0] + 1
    end = next((at for at in range(first, len(lines)) if SECTION.fullmatch(lines[at])), len(lines))
    for form in (rf"\s*{name}\s*=.*", rf"#\s*{name}\s*=.*"):
        for at in range(first, end):
            if re.fullmatch(form, lines[at]):
                return "\n".join([*lines[:at], line, *lines[at + 1 :], ""])
    return "\n".join([*lines[:first], line, *lines[first:], ""])


def _proves(before: str, after: str, values: Mapping[str, Value]) -> bool:
    wanted = tomllib.loads(before)
    for key, value in values.items():
        section, _, name = key.partition(".")
        wanted.setdefault(section, {})[name] = value
    try:
        return tomllib.loads(after) == wanted
    except tomllib.TOMLDecodeError:
        return False
