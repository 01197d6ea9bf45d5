"""The first administrators: public material only, derived on this machine."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fortress.cli.bootstrap import check_username, make_administrator, write_bootstrap
from fortress.errors import PasswordTooWeak, UsageError
from fortress.protocol.schnorr import KDF_PARAMETERS_MIN, is_valid_public_key, public_key, secret_from_seed
from fortress.protocol.schnorr import seed_from_password as derive

PASSWORD = "seven quiet rivers"


def test_the_file_holds_public_material_only(tmp_path: Path) -> None:
    """The point is that of the password; neither password nor secret is in the file."""
    made = make_administrator("ada", PASSWORD, KDF_PARAMETERS_MIN, name="Ada")
    path = write_bootstrap(tmp_path, [made], ["EUR", "USD"])
    text = path.read_text("utf-8")
    document = json.loads(text)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert document["currencies"] == ["EUR", "USD"]
    (ada,) = document["administrators"]
    assert set(ada) == {"username", "name", "salt", "memory_kib", "iterations", "lanes", "public", "signing"}
    seed = derive(PASSWORD, bytes.fromhex(ada["salt"]), KDF_PARAMETERS_MIN)
    assert is_valid_public_key(bytes.fromhex(ada["public"]))
    assert public_key(secret_from_seed(seed)).hex() == ada["public"]
    assert len(bytes.fromhex(ada["signing"])) == 32
    for secret in (PASSWORD, seed.hex(), secret_from_seed(seed).hex()):
        assert secret not in text


def test_a_weak_password_is_refused_before_anything_is_written() -> None:
    """As for every customer."""
    with pytest.raises(PasswordTooWeak):
        make_administrator("ada", "password12", KDF_PARAMETERS_MIN)


@pytest.mark.parametrize("name", ["", "Ada", "-ada", "a" * 65, "a b"])
def test_what_is_no_username_is_refused(name: str) -> None:
    """The same names that the bank takes."""
    with pytest.raises(UsageError):
        check_username(name)
