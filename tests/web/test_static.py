"""The built pages: they are what the sources make, small, and without anything that the policy forbids."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "web"
STATIC = ROOT / "fortress" / "web" / "static"
BESIDE = ("fortress/protocol/common_passwords.txt", "docs/reference/openapi.json")
"""What the sources are built of besides themselves."""

FIRST_LOAD = ("index.html", "app.js", "app.css")
FIRST_LOAD_BYTES_MAX = 60_000
BUILD_S_MAX = 240
LATER = {"admin.js", "admin.css", "worker.js", "uplot.js"}


def npm(folder: Path, *arguments: str) -> None:
    """Run npm; what it says is shown if it fails."""
    done = subprocess.run(
        ["npm", "--loglevel=error", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def packages(lock: Path) -> dict[str, str]:
    """Give each package of a lock with the hash of its content."""
    read: dict[str, dict[str, str]] = json.loads(lock.read_text("utf-8"))["packages"]
    return {name: package["integrity"] for name, package in read.items() if name}


def is_installed() -> bool:
    """Whether the packages in place are those of the lock, as `make` leaves them."""
    there = SOURCES / "node_modules" / ".package-lock.json"
    return there.exists() and packages(there).items() <= packages(SOURCES / "package-lock.json").items()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources in a place of their own, with what they need to be built."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(SOURCES, root / "web", ignore=shutil.ignore_patterns("node_modules"))
    for name in BESIDE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    if is_installed():
        (root / "web" / "node_modules").symlink_to(SOURCES / "node_modules")
    else:
        npm(root / "web", "ci", "--ignore-scripts")
    return root


@pytest.mark.timeout(BUILD_S_MAX)
def test_what_is_committed_is_what_the_sources_make(copy: Path) -> None:
    """A fresh build gives the same files, byte for byte; `make pages` renews them."""
    npm(copy / "web", "run", "build")
    fresh = copy / "fortress" / "web" / "static"
    names = sorted(path.name for path in fresh.iterdir())
    assert sorted(path.name for path in STATIC.iterdir()) == names
    assert [name for name in names if (fresh / name).read_bytes() != (STATIC / name).read_bytes()] == []


@pytest.mark.timeout(BUILD_S_MAX)
def test_the_types_of_the_api_are_those_of_its_description(copy: Path) -> None:
    """The pages are checked against today's API; `npm --prefix web run types` renews the types."""
    npm(copy / "web", "run", "types")
    name = Path("web/src/schema.d.ts")
    assert (copy / name).read_text("utf-8") == (ROOT / name).read_text("utf-8")


def test_the_first_load_is_small() -> None:
    """What comes before the sign-in, packed, takes a slow line about a second; the rest comes when it is needed."""
    packed = {name: len(gzip.compress((STATIC / name).read_bytes(), mtime=0)) for name in FIRST_LOAD}
    assert sum(packed.values()) < FIRST_LOAD_BYTES_MAX, packed
    index, app = ((STATIC / name).read_text("utf-8") for name in FIRST_LOAD[:2])
    assert re.findall(r'(?:src|href)="/([^"]+)"', index) == ["favicon.svg", "app.js", "app.css"]
    assert LATER <= {path.name for path in STATIC.iterdir()}
    assert re.findall(r'(?:from|import)\s?"\./([^"]+)"', app) == []


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    """The policy would stop it: scripts, styles and handlers in the page, maps of sources, other people's servers."""
    index = (STATIC / "index.html").read_text("utf-8")
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", index) == []
    for path in STATIC.iterdir():
        text = path.read_text("utf-8")
        assert "sourceMappingURL" not in text, path.name
        # names of XML and of errors look like addresses and are never asked for
        addresses = set(re.findall(r"https?://[^\"'`\s)]+", text))
        assert {each for each in addresses if not each.startswith("http://www.w3.org/")} == set(), path.name


def test_the_lock_names_no_place_to_load_from() -> None:
    """Everybody's own registry is used; what comes from there is checked by its hash."""
    lock = (SOURCES / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
    assert all(digest.startswith("sha512-") for digest in packages(SOURCES / "package-lock.json").values())
