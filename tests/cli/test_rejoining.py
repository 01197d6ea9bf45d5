"""``rejoin``: old data goes aside, never away, and only while the other node has everything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fortress import config
from fortress.cli import rejoining, status
from fortress.cli.rejoining import put_aside
from fortress.errors import Unreachable
from fortress.pair.chronicle import read
from fortress.pair.control import CONTROL_NAME, Control
from fortress.server.folder import locked
from tests.cli.doors import make_pair

Tell = Callable[..., Any]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
FILES = ("journal/1.seg", "ledger.db", "ledger.db-wal", "people.db", "orphaned/x", "incoming/x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A second node with data, in quarantine."""
    _, second = make_pair(tmp_path)
    for name in FILES:
        (second / name).parent.mkdir(exist_ok=True)
        (second / name).write_text(name)
    control = Control.create(second / CONTROL_NAME, bytes.fromhex(config.load(second, {}, {}).pair.cluster))
    control.promise(7)
    control.quarantine("a broken page")
    control.close()
    return second


@pytest.fixture
def primary(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The other node, which answers as primary."""
    told = {"role": "primary", "node": "node-1"}
    monkeypatch.setattr(status, "read_peer", lambda call, settings: told)
    return told


def opened(folder: Path) -> Control:
    control = Control.open(folder / CONTROL_NAME)
    control.close()
    return control


def test_a_quarantined_node_begins_anew(tell: Tell, folder: Path, primary: dict[str, Any]) -> None:
    """As another instance, without its data, which is kept; what it has promised it still keeps to."""
    before = opened(folder).instance
    code, out, err = tell("rejoin", str(folder), "--confirm", "node-2", "--json")
    assert code == 0 and f"fortress serve {folder}" in err
    kept = Path(out["replaced"])
    assert {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()} == set(FILES)
    assert not any((folder / name).exists() for name in FILES)
    after = opened(folder)
    assert [each.name for each in read(folder)] == ["rejoined"]
    assert after.instance != before and after.promised == 7 and not after.quarantined
    for name in ("keyring", "fortress.toml", "certs/node.key", "keys/node.key"):
        assert (folder / name).exists()


def test_a_wiped_node_begins_anew(tell: Tell, folder: Path, primary: dict[str, Any]) -> None:
    """There is nothing to put aside."""
    (folder / CONTROL_NAME).unlink()
    assert tell("rejoin", str(folder), "--confirm", "node-2")[0] == 0
    code, out, _ = tell("rejoin", str(folder), "--confirm", "node-2", "--json")
    assert code == 0 and out["replaced"] is None


def test_a_founder_does_not_found_again(tmp_path: Path) -> None:
    """What the first start of a bank reads goes aside too, wherever the data lies."""
    first, _ = make_pair(tmp_path, **{"node.data_folder": "data"})
    (first / "data" / "journal").mkdir()
    kept = put_aside(config.load(first, {}, {}), now=NOON)
    assert kept == first / "data" / "replaced" / "20260601T120000Z"
    assert kept is not None and {path.name for path in kept.iterdir()} == {"journal", "bootstrap.json"}
    assert not (first / "bootstrap.json").exists()


def test_a_damaged_control_file_goes_aside(folder: Path) -> None:
    """It is worth no more than none."""
    (folder / CONTROL_NAME).write_bytes(b"noise")
    kept = put_aside(config.load(folder, {}, {}), now=NOON)
    assert kept is not None and (kept / CONTROL_NAME).read_bytes() == b"noise"
    assert not (folder / CONTROL_NAME).exists()


@pytest.mark.parametrize("crash_at", range(1, 5))
def test_a_crash_on_the_way_is_harmless(folder: Path, crash_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node stays in quarantine, as another instance, until a second call has finished."""
    before = opened(folder).instance
    renames: list[Path] = []
    rename = Path.rename

    def crash(path: Path, target: Path) -> Path:
        renames.append(path)
        if len(renames) == crash_at:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(rejoining.Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        put_aside(config.load(folder, {}, {}))
    monkeypatch.undo()
    assert opened(folder).instance != before and opened(folder).quarantined == "a broken page"
    put_aside(config.load(folder, {}, {}))
    assert not opened(folder).quarantined
    assert not any((folder / name).exists() for name in FILES)
    assert len(list((folder / "replaced").rglob("1.seg"))) == 1


def test_the_name_must_be_typed(tell: Tell, folder: Path, primary: dict[str, Any]) -> None:
    """Not just a yes."""
    for more in ((), ("--confirm", "node-1")):
        assert tell("rejoin", str(folder), "--no-input", *more)[0] == 2
    assert all((folder / name).exists() for name in FILES)


def test_the_only_copy_stays_where_it_is(
    tell: Tell, folder: Path, primary: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the other node is not primary, does not answer, or this one runs, or has no other."""
    primary["role"] = "standby"
    assert "only copy" in tell("rejoin", str(folder), "--confirm", "node-2")[2]

    def read_peer(call: Any, settings: Any) -> Any:
        raise Unreachable("nobody there")

    monkeypatch.setattr(status, "read_peer", read_peer)
    assert "only copy" in tell("rejoin", str(folder), "--confirm", "node-2")[2]
    with locked(config.load(folder, {}, {})):
        assert "FT-5007" in tell("rejoin", str(folder), "--confirm", "node-2")[2]
    file = folder / config.FILE_NAME
    file.write_text(file.read_text("utf-8").replace('peer = "', '# peer = "'), "utf-8")
    assert "a node alone" in tell("rejoin", str(folder), "--confirm", "node-2")[2]
    assert all((folder / name).exists() for name in FILES)
