"""Fortress: a bank you can run, and the library that talks to it.

This door opens to :func:`connect` and the version. It knows which room holds what it offers and loads that room
when it is first asked for; it does not know how anything works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fortress.client.client import connect

__version__ = "0.1.0"
__all__ = ["__version__", "connect"]


def __getattr__(name: str) -> object:
    # PEP 562: importing fortress must stay cheap, a command shows its first byte within 250 ms
    if name == "connect":
        from fortress.client.client import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
