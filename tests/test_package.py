"""The door of the package: what it offers without loading what it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fortress


def test_connect_is_offered_at_the_door() -> None:
    """``fortress.connect`` is the client's, loaded when it is asked for."""
    from fortress.client.client import connect

    assert fortress.connect is connect


def test_other_names_are_not_there() -> None:
    """A wrong name fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = getattr(fortress, "conect")  # noqa: B009


def test_importing_the_package_loads_no_room() -> None:
    """The command line shows its first byte soon, so the door alone stays cheap."""
    code = "import sys, fortress; print(*(name for name in sys.modules if name.startswith('fortress.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == ""
