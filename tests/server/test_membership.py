"""A node's way into its pair: its control file, and its files mended between two starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fortress.config import PairSettings
from fortress.errors import ChainBroken, Quarantined, SettingInvalid
from fortress.ledger.orphans import read_orphans
from fortress.ledger.vault import Vault
from fortress.pair.control import CONTROL_NAME, Control
from fortress.pair.messages import Mark
from fortress.server.folder import Folder, open_folder
from fortress.server.membership import ORPHANS_NAME, People, mend, open_control
from fortress.server.pairing import Restart
from tests.server.banks import filled_folder, until
from tests.server.members import Member, member

CLUSTER = "ab" * 16
IN_A_PAIR = PairSettings(peer="127.0.0.1:1", cluster=CLUSTER, register_addresses="127.0.0.1:2")


@contextmanager
def opened(path: Path, pair: PairSettings = IN_A_PAIR) -> Iterator[Folder]:
    """The folder of a node of a pair, with these settings."""
    if not path.exists():
        shutil.copytree(filled_folder(), path)
    with closing(open_folder(path, {}, {})) as folder:
        folder.settings = replace(folder.settings, pair=pair)
        yield folder


def test_the_first_start_makes_the_control_file_and_the_next_finds_it(tmp_path: Path) -> None:
    """The same instance, the same cluster, and what was promised."""
    with opened(tmp_path / "a") as folder:
        with closing(open_control(folder)) as control:
            instance = control.instance
            control.promise(3)
        with closing(open_control(folder)) as control:
            assert (control.instance, control.promised, control.cluster.hex()) == (instance, 3, CLUSTER)


@pytest.mark.parametrize(
    "pair",
    [
        replace(IN_A_PAIR, cluster="xyz"),
        replace(IN_A_PAIR, cluster=""),
        replace(IN_A_PAIR, peer="somewhere"),
    ],
)
def test_settings_that_make_no_pair_are_told(tmp_path: Path, pair: PairSettings) -> None:
    """With the setting's name; no control file is made."""
    with opened(tmp_path / "a", pair) as folder, pytest.raises(SettingInvalid):
        open_control(folder)
    assert not (tmp_path / "a" / CONTROL_NAME).exists()


def test_a_folder_of_another_cluster_is_refused(tmp_path: Path) -> None:
    """A folder cannot go over to another pair by a changed setting."""
    with opened(tmp_path / "a") as folder:
        open_control(folder).close()
    with opened(tmp_path / "a", replace(IN_A_PAIR, cluster="cd" * 16)) as folder, pytest.raises(SettingInvalid):
        open_control(folder)


def test_a_quarantined_node_does_not_start(tmp_path: Path) -> None:
    """It says why, as often as it is tried."""
    with opened(tmp_path / "a") as folder:
        with closing(open_control(folder)) as control:
            control.quarantine("a test said so")
        for _ in range(2):
            with pytest.raises(Quarantined, match="a test said so"):
                open_control(folder)
        Control.open(tmp_path / "a" / CONTROL_NAME).close()  # nothing was left locked


async def test_a_tail_is_cut_off_and_kept(tmp_path: Path) -> None:
    """The journal ends where it has to; what was behind can be read from the copy."""
    path = tmp_path / "a"
    async with member(tmp_path) as node:
        end = Mark(*node.engine.journal.end)
        await node.committer.wait_applied(node.committer.committed_position)
        orders = [node.move(amount) for amount in (1, 2)]
        for order in orders:
            node.submit("x", order)
        await _durable(node)
        tail = [record.hash for record in node.made]
    with opened(path) as folder:
        mend(folder, Restart("a test", None))
        mend(folder, Restart("a test", end))
        copies = [*(path / ORPHANS_NAME).iterdir()]
        assert [record.hash for record in read_orphans(copies[0], folder.keyring.data_key)] == tail
        mend(folder, Restart("a test", end))  # again, as after a crash
        with pytest.raises(ChainBroken):
            mend(folder, Restart("a test", Mark(end.lsn, b"x" * 32)))
    async with member(tmp_path) as node:
        assert Mark(*node.engine.journal.end) == end and not node.engine.unapplied


async def _durable(node: Member) -> None:
    await until(lambda: len(node.durable) == len(node.made) > 0)


def test_people_s_keys_are_those_of_the_vault(tmp_path: Path) -> None:
    """By bucket, replaced, taken and destroyed."""
    with closing(Vault(tmp_path / "people.db", b"k" * 32)) as vault:
        people = People(vault)
        before = people.digests()
        people.take(b"ann", b"1" * 32)
        people.replace_bucket(ord("b"), [(b"bob", b"2" * 32)])
        assert people.bucket(ord("a")) == ((b"ann", b"1" * 32),)
        assert people.bucket(ord("b")) == ((b"bob", b"2" * 32),)
        assert people.digests() != before
        people.take(b"ann", None)
        people.replace_bucket(ord("b"), [])
        assert people.digests() == before
