"""The completion scripts of three shells."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fortress.cli.main import run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script asks the program by one variable."""
    assert run(["completion", shell]) == 0
    assert f"_FORTRESS_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_the_script_is_answered() -> None:
    """What the script asks, the program answers."""
    asked = {"_FORTRESS_COMPLETE": "bash_complete", "COMP_WORDS": "fortress expl", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from fortress.cli.main import main; main()"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["plain,explain"]


def test_other_shells_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A shell without a script is wrong usage."""
    assert run(["completion", "cmd"]) == 2
