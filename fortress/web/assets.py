"""The built pages, kept in memory: small, always the same, and sent compressed to whoever takes that."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent / "static"
INDEX: Final = "index.html"
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
"""What is served; another kind of file is not."""
COMPRESSED: Final = {".html", ".js", ".css", ".svg", ".json", ".txt", ".wasm", ".webmanifest"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file.

    Attributes:
        small: compressed by gzip; empty where that is no use.
        tag: changes with the content.
    """

    content_type: str
    body: bytes
    small: bytes
    tag: str

    def etag(self, *, compressed: bool) -> str:
        """Give the entity tag (RFC 9110 8.8.3) of one of both forms."""
        return f'"{self.tag}-gz"' if compressed else f'"{self.tag}"'


class Assets:
    """All files of the pages.

    Args:
        folder: where they were built to; missing: there are none.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in TYPES)
        self._assets = {path.relative_to(folder).as_posix(): _read(path) for path in found}

    def find(self, path: str) -> Asset | None:
        """Give what a path of the browser leads to; every page is the one page, whose script reads the path."""
        name = path.removeprefix("/")
        if "." not in PurePosixPath(name).name:
            name = INDEX
        return self._assets.get(name)


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    if len(body) > FILE_BYTES_MAX:
        raise ValueError(f"{path.name} is too large for a page")
    # mtime 0, so that every process gives the same bytes
    small = gzip.compress(body, 9, mtime=0) if path.suffix in COMPRESSED else b""
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Asset(TYPES[path.suffix], body, small if len(small) < len(body) else b"", tag)
