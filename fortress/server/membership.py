"""A node's way into its pair: its control file, replication, its files mended between two starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from fortress.errors import FortressError, Quarantined, SettingInvalid
from fortress.ledger.engine import Engine
from fortress.ledger.orphans import truncate_after
from fortress.ledger.store import Store
from fortress.ledger.vault import Vault
from fortress.pair.chronicle import Chronicle
from fortress.pair.control import CONTROL_NAME, Control
from fortress.pair.link import dialing_context, listening_context
from fortress.pair.register import open_register
from fortress.pair.replication import Parts, Replication
from fortress.server.copies import Copies
from fortress.server.digests import Digests
from fortress.server.folder import Folder, data_folder
from fortress.server.handlers import Dispatcher
from fortress.server.member_committer import MemberCommitter
from fortress.server.pairing import Pairing, Restart
from fortress.server.replica import JournalHistory, Replica

BOOTSTRAP_FILE: Final = "bootstrap.json"
ORPHANS_NAME: Final = "orphaned"


class People:
    """People's own keys as replication sees them."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def digests(self) -> bytes:
        """Give the digest of each bucket."""
        return self._vault.digests()

    def bucket(self, number: int) -> tuple[tuple[bytes, bytes], ...]:
        """Give handles and keys of a bucket."""
        return self._vault.bucket(number)

    def replace_bucket(self, number: int, keys: Iterable[tuple[bytes, bytes]]) -> None:
        """Hold exactly these in a bucket."""
        self._vault.replace_bucket(number, keys)

    def take(self, handle: bytes, key: bytes | None) -> None:
        """Hold a key, or destroy it."""
        self._vault.take(handle, key)


def open_control(folder: Folder) -> Control:
    """Open what this node must not forget as a member of a pair.

    Raises:
        Quarantined: it takes no part until it is rebuilt.
        SettingInvalid: the settings name a peer and no cluster, or another cluster than the file.
    """
    pair = folder.settings.pair
    try:
        cluster = bytes.fromhex(pair.cluster)
    except ValueError as exc:
        raise SettingInvalid(f"pair.cluster = {pair.cluster!r} is not hexadecimal", {"key": "pair.cluster"}) from exc
    if not cluster or ":" not in pair.peer:
        raise SettingInvalid("a member of a pair needs pair.cluster and pair.peer = host:port", {"key": "pair.cluster"})
    path = data_folder(folder.settings) / CONTROL_NAME
    control = Control.open(path) if path.exists() else Control.create(path, cluster)
    if control.cluster != cluster:
        control.close()
        raise SettingInvalid("pair.cluster is not the cluster that this folder belongs to", {"key": "pair.cluster"})
    if control.quarantined:
        reason = control.quarantined
        control.close()
        raise Quarantined(f"this node's data cannot be trusted: {reason}", {"reason": reason})
    return control


def enter_pair(
    folder: Folder,
    replica: Replica,
    *,
    engine: Engine,
    vault: Vault,
    control: Control,
    committer: MemberCommitter,
    dispatcher: Dispatcher,
    make_whole: Callable[[], Awaitable[None]],
    on_restart: Callable[[Restart], None],
    on_stop: Callable[[FortressError], None],
) -> Pairing:
    """Put this node's part of the pair together; arguments as `Pairing` takes them."""
    pairing = Pairing(
        folder.settings.pair,
        engine=engine,
        replica=replica,
        committer=committer,
        dispatcher=dispatcher,
        control=control,
        chronicle=Chronicle(data_folder(folder.settings), folder.settings.node.name),
        make_whole=make_whole,
        on_restart=on_restart,
        on_stop=on_stop,
    )
    digests = Digests(engine, committer, pairing)
    pairing.replication = replica.pair = _replication(folder, pairing, engine, vault, control, digests)
    pairing.start_chore(digests.run(folder.settings.pair.digest_s))
    return pairing


def _replication(
    folder: Folder, pairing: Pairing, engine: Engine, vault: Vault, control: Control, digests: Digests
) -> Replication:
    settings, tls = folder.settings, folder.settings.tls
    files = (settings.path(tls.certificate), settings.path(tls.key), settings.path(tls.ca))
    dialing = dialing_context(*files)
    asking = (
        dialing_context(*files[:2], settings.path(settings.pair.register_ca)) if settings.pair.register_ca else dialing
    )
    register = open_register(settings.pair, asking, control.cluster, promised=lambda: control.promised)
    has_begun = engine.last is not None or (settings.folder / BOOTSTRAP_FILE).exists()
    copies = Copies(folder, engine, on_installed=lambda: pairing.restart("a copy of the primary's tables came"))
    parts = Parts(
        bank=settings.node.bank,
        name=settings.node.name,
        control=control,
        register=register,
        listening=listening_context(*files),
        dialing=dialing,
        history=JournalHistory(engine),
        people=People(vault),
        host=pairing,
        send_snapshot=copies.send,
        take_snapshot=copies.take,
        on_digest=digests.take,
    )
    committed = engine.committed.lsn if engine.committed else 0
    is_founder = has_begun and control.promised == 0
    replication = Replication(parts, settings.pair, committed=committed, is_founder=is_founder)
    loop = asyncio.get_running_loop()

    def changed(handle: bytes, key: bytes | None) -> None:
        loop.call_soon_threadsafe(replication.keys_changed, handle, key)

    vault.on_change = changed
    return replication


def mend(folder: Folder, restart: Restart) -> None:
    """Do what a node has to do to its files before it starts anew; blocking, and safe to be interrupted anywhere."""
    if restart.truncate_after is None:
        return
    data = data_folder(folder.settings)
    settings = folder.settings
    store = Store(data / "ledger.db", folder.keyring.store_key, cache_mb=settings.ledger.cache_mb)
    try:
        applied_lsn = store.applied_lsn
    finally:
        store.close()
    truncate_after(
        data / "journal",
        folder.keyring.data_key,
        bank=settings.node.bank,
        lsn=restart.truncate_after.lsn,
        hash=restart.truncate_after.hash,
        orphans=data / ORPHANS_NAME,
        applied_lsn=applied_lsn,
        segment_bytes=settings.ledger.segment_bytes,
    )
