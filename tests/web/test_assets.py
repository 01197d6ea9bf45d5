"""The built pages: found by name, every page the same one, compressed once."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fortress.web import assets
from fortress.web.assets import Assets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<!doctype html>" + " " * 500)
    (tmp_path / "app.js").write_text("1;" * 500)
    (tmp_path / "secret.key").write_text("key")
    return tmp_path


def test_files_are_found_by_their_names(folder: Path) -> None:
    """With their type, and compressed where that saves something."""
    asset = Assets(folder).find("/app.js")
    assert asset is not None and asset.content_type.startswith("text/javascript")
    assert gzip.decompress(asset.small) == asset.body == b"1;" * 500


@pytest.mark.parametrize("path", ["/", "/send", "/accounts/1000556", "/admin/users/ada"])
def test_every_page_is_the_one_page(folder: Path, path: str) -> None:
    """The script in it reads the path."""
    pages = Assets(folder)
    assert pages.find(path) is pages.find("/index.html")


@pytest.mark.parametrize("path", ["/nothing.js", "/secret.key", "/../setup.cfg", "/%2e%2e/setup.cfg"])
def test_what_is_not_built_is_not_served(folder: Path, path: str) -> None:
    """Nor what lies beside it, or is no part of a page."""
    assert Assets(folder).find(path) is None


def test_another_content_has_another_tag(folder: Path) -> None:
    """So a browser that kept the old one asks for the new; both forms have tags of their own."""
    before = Assets(folder).find("/app.js")
    (folder / "app.js").write_text("2;" * 500)
    after = Assets(folder).find("/app.js")
    assert before is not None and after is not None and before.tag != after.tag
    assert after.etag(compressed=True) != after.etag(compressed=False)


def test_without_a_build_there_are_no_pages(tmp_path: Path) -> None:
    """The API works all the same."""
    assert Assets(tmp_path / "missing").find("/") is None


def test_a_file_that_is_too_large_is_said_at_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are kept in memory, so one must not fill it."""
    monkeypatch.setattr(assets, "FILE_BYTES_MAX", 100)
    with pytest.raises(ValueError, match="too large"):
        Assets(folder)
