"""The register: the one place outside both nodes that says who is primary, and a way to each kind of it.

A register holds one configuration for each pair and changes it only by comparing and setting, in one order that all
see. It is no lock and no clock; nothing in it expires. What a change may be says :mod:`.change`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from fortress.config import PairSettings
from fortress.errors import SettingInvalid
from fortress.pair.change import Conflict as Conflict
from fortress.pair.messages import Configuration


class Register(Protocol):
    """What a node can ask of a register. Each call ends within a second or a little more.

    Raises:
        RegisterUnreachable: from all of them: no answer, or one that does not say what is.
        RegisterStale: from all of them: the register is older than what this node has promised.
    """

    async def get(self) -> Configuration | None:
        """Give the configuration; None when there is none yet. Sees every change that was answered before the call."""
        ...

    async def compare_and_set(self, expected_epoch: int | None, fresh: Configuration) -> Configuration:
        """Replace the configuration of this epoch; None: write the first one, of epoch 1.

        Returns:
            what the register holds now: ``fresh``, with the id of the register's storage as its witness.

        Raises:
            Conflict: the register holds something else. It may be ``fresh``, from an earlier call of unknown outcome.
            RegisterUnreachable: whether it was replaced is not known; it may still be, until something else is.
            LocalProtocolError: ``fresh`` may not follow that epoch.
        """
        ...

    async def close(self) -> None:
        """End the connection; may be repeated."""
        ...


def open_register(
    settings: PairSettings, tls: ssl.SSLContext | None, cluster: bytes, *, promised: Callable[[], int]
) -> Register:
    """Make the client of the register that the settings name; it connects when it is first asked.

    Args:
        settings: say which kind, and where.
        tls: for dialing, with this node's certificate; None only for an etcd without TLS.
        cluster: id of the pair.
        promised: tells the highest epoch that this node has promised.

    Raises:
        SettingInvalid: the addresses are not of that kind.
    """
    addresses = [address.strip() for address in settings.register_addresses.split(",") if address.strip()]
    if settings.register == "etcd":
        from fortress.pair.etcd_register import EtcdRegister

        if not addresses or not all(address.startswith(("http://", "https://")) for address in addresses):
            raise _invalid(settings, "it takes one or more like https://host:2379, with commas between")
        return EtcdRegister(addresses, tls, cluster, promised=promised)
    from fortress.pair.witness_register import WitnessRegister

    if len(addresses) != 1 or not addresses[0].rpartition(":")[2].isdecimal() or tls is None:
        raise _invalid(settings, "it takes one witness, like host:7614")
    return WitnessRegister(addresses[0], tls, cluster, promised=promised)


def _invalid(settings: PairSettings, takes: str) -> SettingInvalid:
    facts: dict[str, int | str | bool | None] = {"key": "pair.register_addresses"}
    return SettingInvalid(f"pair.register_addresses = {settings.register_addresses!r} is not possible: {takes}", facts)
