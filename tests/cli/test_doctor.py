"""``doctor``: every fault is found, named, and comes with its fix; a healthy pair has none."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fortress import __version__, authority, config
from fortress.cli import doctor
from fortress.cli.command import Call
from fortress.cli.demo import free_port
from fortress.cli.doctor import CHECKS, Finding, Patient, examine
from fortress.cli.folders import make_folder
from fortress.cli.gateways import connect_bank, gateway_of
from fortress.cli.peer import PeerAnswer
from fortress.errors import Unreachable
from fortress.pair.control import CONTROL_NAME, Control
from fortress.pair.messages import Configuration, Member
from fortress.server.backup_note import BackupNote, write_note
from fortress.server.folder import locked
from tests.cli.doors import answering, make_pair, witnessing
from tests.cli.test_switching import write

Tell = Callable[..., Any]
PEER = {"role": "standby", "node": "node-2", "version": __version__}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the other node answers."""
    told = SimpleNamespace(document=dict(PEER), clock_off_s=0.001)
    monkeypatch.setattr(doctor, "ask_peer", lambda settings: PeerAnswer(told.document, told.clock_off_s))
    return told


def findings(folder: Path, check: str, *others: Path) -> list[Finding]:
    """What one check finds."""
    others_settings = tuple(config.load(each, {}, {}) for each in others)
    patient = Patient(Call(timeout_s=1.0), config.load(folder, {}, {}), others_settings)
    return list(CHECKS[check](patient))


def bad(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.level, each.found) for each in found if each.level != "ok"]


@contextmanager
def listening(*addresses: tuple[str, int]) -> Iterator[None]:
    """Take connections at these addresses."""
    sockets = [socket.create_server(address, reuse_port=True) for address in addresses]
    try:
        yield
    finally:
        for each in sockets:
            each.close()


def change(folder: Path, key: str, value: str) -> None:
    from fortress.server.settings_file import change_settings

    change_settings(folder, {key: value})


def control_of(folder: Path) -> Control:
    return Control.create(folder / CONTROL_NAME, bytes.fromhex(config.load(folder, {}, {}).pair.cluster))


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_new_folder_is_sound(pair: tuple[Path, Path]) -> None:
    """Secrets, keys, certificates, disk."""
    for name in ("secrets", "keys", "certificates", "disk space", "disk", "ports", "cluster"):
        for folder in pair:
            assert bad(findings(folder, name)) == [], name
    assert not list(pair[0].glob(".doctor*"))


def test_open_secrets_are_found(pair: tuple[Path, Path]) -> None:
    """With the command that closes them."""
    (pair[0] / "certs" / "node.key").chmod(0o644)
    (pair[0] / "keyring").chmod(0o640)
    pair[0].chmod(0o755)
    found = findings(pair[0], "secrets")
    assert [each.level for each in found] == ["fail", "fail", "warn"]
    assert all(each.fix.startswith("chmod") for each in found)


def test_a_wrong_key_is_found(pair: tuple[Path, Path]) -> None:
    """By the check that breaks off; the others go on."""
    (pair[0] / "keys" / "node.key").write_text("00" * 32)
    patient = Patient(Call(timeout_s=0.1), config.load(pair[0], {}, {}))
    found = list(examine(patient))
    assert [each.what for each in found if "another one" in each.found] == ["keys"]
    assert {"disk space", "durable write of 4 KiB"} <= {each.what for each in found}


def test_certificates_that_end_or_do_not_fit_are_found(pair: tuple[Path, Path]) -> None:
    """Soon, already, another key, another bank."""
    certs = pair[0] / "certs"
    now = datetime.now(UTC)
    authority.renew(certs, "node", now=now - timedelta(days=authority.LEAF_VALID_DAYS - 10))
    authority.renew(certs, "bank", now=now - timedelta(days=authority.LEAF_VALID_DAYS + 10))
    authority.issue(certs, authority.Kind.node, bank="b", name="other")
    authority.issue(certs, authority.Kind.node, bank="a", name="torn")
    (certs / "torn.key").unlink()
    found = {each.what.rpartition(" ")[2]: each for each in findings(pair[0], "certificates")}
    assert {name: each.level for name, each in found.items()} == {
        "ca": "ok",
        "node": "warn",
        "bank": "fail",
        "other": "fail",
        "torn": "fail",
    }
    assert "expired" in found["bank"].found and "bank b" in found["other"].found
    assert "fortress cert renew node" in found["node"].fix


def test_a_full_or_slow_disk_is_found(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the node refuses entries."""
    free = [100 * 2**20]
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    assert findings(pair[0], "disk space")[0].level == "fail"
    free[0] = 1000 * 2**20
    assert findings(pair[0], "disk space")[0].level == "warn"
    ticks = iter(range(1000))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(ticks) / 50)
    (found,) = findings(pair[0], "disk")
    assert found.level == "warn" and "20.00 ms" in found.found


def test_a_backup_that_is_missing_or_old_is_found(pair: tuple[Path, Path]) -> None:
    """After two days; with the command that makes one."""
    folder = pair[0]
    (missing,) = findings(folder, "backup")
    assert (missing.level, missing.fix) == ("warn", f"fortress backup create {folder} --to BACKUPS")
    for hours, level in ((1, "ok"), (47, "ok"), (49, "warn")):
        made = datetime.now(UTC) - timedelta(hours=hours)
        write_note(folder, BackupNote(int(made.timestamp() * 1e6), 12, 34, 5678, "a.backup"))
        (found,) = findings(folder, "backup")
        assert (found.level, bool(found.fix)) == (level, level == "warn")
        assert found.found == f"a.backup, up to position 34, made {made:%Y-%m-%d %H:%M} UTC"


def test_a_data_folder_that_is_gone_is_found(pair: tuple[Path, Path]) -> None:
    """As when its disk is not mounted."""
    change(pair[0], "node.data_folder", "away")
    found = list(examine(Patient(Call(timeout_s=0.1), config.load(pair[0], {}, {}))))
    assert ("fail", "disk space") in [(each.level, each.what) for each in found]


# --- the node --------------------------------------------------------------------------------------------------------


def test_ports_are_free_or_taken_by_the_node(pair: tuple[Path, Path]) -> None:
    """Taken while it does not run, or free while it does: both are found."""
    settings = config.load(pair[0], {}, {})
    clients, records = (settings.server.host, settings.server.port), doctor.split(settings.pair.listen)
    with listening(clients):
        assert [each.level for each in findings(pair[0], "ports")] == ["fail", "ok"]
        with locked(settings):
            assert [each.level for each in findings(pair[0], "ports")] == ["ok", "fail"]
            with listening(records):
                assert bad(findings(pair[0], "ports")) == []


def test_a_node_that_does_not_run_is_told(pair: tuple[Path, Path]) -> None:
    """And one in quarantine, with the way out; one that runs tells its state and what ails it."""
    assert [each.level for each in findings(pair[0], "node")] == ["warn"]
    control = control_of(pair[0])
    control.quarantine("a broken page")
    control.close()
    found = findings(pair[0], "node")
    assert found[0].level == "fail" and found[0].fix == f"fortress rejoin {pair[0]}"
    document = {"state": "primary.solo", "version": "9", "checks": {"disk": (False, "full")}}
    with locked(config.load(pair[1], {}, {})), answering(pair[1], status=lambda: document):
        found = findings(pair[1], "node")
    assert bad(found) == [("fail", "disk: full")] and "primary.solo, version 9" in found[1].found


# --- the pair --------------------------------------------------------------------------------------------------------


def test_folders_of_two_pairs_are_found(pair: tuple[Path, Path]) -> None:
    """Other cluster, other register, a folder that belongs elsewhere."""
    assert bad(findings(pair[0], "cluster", pair[1])) == []
    change(pair[1], "pair.cluster", "00" * 16)
    change(pair[1], "pair.register_addresses", "elsewhere:1")
    assert len(bad(findings(pair[0], "cluster", pair[1]))) == 2
    control_of(pair[0]).close()
    change(pair[0], "pair.cluster", "00" * 16)
    assert "another pair" in bad(findings(pair[0], "cluster"))[0][1]
    change(pair[1], "node.bank", "b")
    assert len(bad(findings(pair[0], "cluster", pair[1]))) == 1


def test_a_node_alone_has_no_pair_to_check(pair: tuple[Path, Path]) -> None:
    """It is told how to make one."""
    change(pair[0], "pair.peer", "")
    assert "node alone" in findings(pair[0], "cluster")[0].found
    assert findings(pair[0], "other node") == findings(pair[0], "register") == []


def test_the_other_node_is_looked_at(
    pair: tuple[Path, Path], peer: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it can be reached, its clock, its version."""
    settings = config.load(pair[0], {}, {})
    assert [each.level for each in findings(pair[0], "other node")] == ["fail", "ok", "ok", "ok"]
    with listening(doctor.split(settings.pair.peer)):
        assert bad(findings(pair[0], "other node")) == []
        peer.clock_off_s = 2.0
        assert bad(findings(pair[0], "other node")) == [("warn", "2.000 s apart")]
        peer.clock_off_s = 60.0
        peer.document["version"] = "0.0.9"
        assert [level for level, _ in bad(findings(pair[0], "other node"))] == ["fail", "warn"]
        with locked(settings), answering(pair[0], status=lambda: {"peer": {"seen_s": None}}):
            assert "not said hello" in bad(findings(pair[0], "other node"))[0][1]

        def refuse(settings: Any) -> Any:
            raise Unreachable("nobody there")

        monkeypatch.setattr(doctor, "ask_peer", refuse)
        assert bad(findings(pair[0], "other node")) == [("fail", "nobody there")]


def test_the_register_is_asked(pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes, and whether it counts this disk."""
    first, second = pair
    assert "no node can take over" in bad(findings(first, "register"))[0][1]
    with witnessing(tmp_path / "w", first, second):
        assert "never started" in bad(findings(first, "register"))[0][1]
        control = control_of(first)
        member = Member("node-1", control.instance)
        control.close()
        assert "holds nothing" in bad(findings(first, "register"))[0][1]
        asyncio.run(write(first, None, Configuration(1, member, (member,))))
        assert bad(findings(first, "register")) == []
        control_of(second).close()
        assert "does not count yet" in bad(findings(second, "register"))[0][1]
        monkeypatch.setattr(doctor, "REGISTER_MS_WARN", 0.0)
        assert "answers in" in bad(findings(first, "register"))[0][1]


def test_the_command_tells_all_and_exits_by_it(tell: Tell, pair: tuple[Path, Path], peer: SimpleNamespace) -> None:
    """6 if anything failed; each failure with its fix below the table."""
    code, out, _ = tell("doctor", *map(str, pair))
    assert code == 6 and "fail: node-1, register (witness): fortress init ./witness" in out
    rows = tell("doctor", str(pair[1]), "--json")[1]
    assert {row["node"] for row in rows} == {"node-2"} and {"level", "what", "found", "fix"} < set(rows[0])
    shutil.rmtree(pair[1])
    assert tell("doctor", str(pair[1]))[0] == 2


def test_a_node_alone_that_is_sound_is_well(tell: Tell, pair: tuple[Path, Path]) -> None:
    """Exit code 0."""
    change(pair[0], "pair.peer", "")
    settings = config.load(pair[0], {}, {})
    document = {"role": "primary", "version": __version__}
    with (
        locked(settings),
        listening((settings.server.host, settings.server.port)),
        answering(pair[0], status=lambda: document),
    ):
        code, out, _ = tell("doctor", "--config", str(pair[0]))
    assert code == 0 and ("all is well." in out or " 0 failed" in out)


def test_addresses_are_taken_apart() -> None:
    """Brackets around an IPv6 address included."""
    assert doctor.split("[::1]:7613") == ("::1", 7613)
    assert doctor.split("a.example:7613") == ("a.example", 7613)
    assert doctor.split("nothing") == ("", 0)


# --- other banks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A gateway's folder; nothing runs."""
    settings: dict[str, str | int] = {"switch.listen": f"127.0.0.1:{free_port()}", "monitor.port": 0}
    make_folder(tmp_path / "g1", bank="gateway", node="node-1", administrators=[], settings=settings)
    return tmp_path / "g1"


def shown(monkeypatch: pytest.MonkeyPatch, **document: Any) -> None:
    """Let a node say this of itself."""
    monkeypatch.setattr(Patient, "document", {"role": "primary", **document})


def test_the_way_to_the_gateway_is_checked(
    pair: tuple[Path, Path], gateway: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its authority, its address, and whether it takes the registration; a bank that names none has none to check."""
    assert findings(pair[0], "gateway") == []
    connect_bank(pair, gateway_of([gateway]))
    ((level, found),) = bad(findings(pair[0], "gateway"))
    assert level == "fail" and "takes no connection" in found
    with listening(doctor.split(config.load(gateway, {}, {}).switch.listen)):
        assert bad(findings(pair[0], "gateway")) == []
        shown(monkeypatch, gateway={"connected": True})
        assert bad(findings(pair[0], "gateway")) == []
        shown(monkeypatch, gateway={"connected": False})
        assert bad(findings(pair[0], "gateway")) == [("fail", "the gateway does not take this bank's registration")]
    (pair[0] / "certs" / "gateway-ca.crt").unlink()
    patient = Patient(Call(timeout_s=0.1), config.load(pair[0], {}, {}))
    assert [each.level for each in examine(patient) if "gateway-ca.crt" in each.found] == ["fail"]


def test_the_banks_of_a_gateway_are_checked(gateway: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its primary; and that its port for them is free while it does not run."""
    assert findings(gateway, "banks") == [] and bad(findings(gateway, "ports")) == []
    with listening(doctor.split(config.load(gateway, {}, {}).switch.listen)):
        assert [level for level, _ in bad(findings(gateway, "ports"))] == ["fail"]
    shown(monkeypatch, switch={"banks": 2, "banks_connected": 2})
    assert bad(findings(gateway, "banks")) == []
    shown(monkeypatch, switch={"banks": 2, "banks_connected": 1})
    assert bad(findings(gateway, "banks")) == [("warn", "1 of 2 connected")]
