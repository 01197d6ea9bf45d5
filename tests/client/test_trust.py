"""Tests of trust: what makes a server trusted, and what is no trust at all."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from fortress.client.trust import Trust
from fortress.errors import ServerNotTrusted, UsageError
from fortress.protocol.channel import static_public_key
from tests.client.fake_bank import BANK, Credentials


def test_only_tls_13_with_a_known_authority(credentials: Credentials) -> None:
    """Older versions and unknown certificates are out of the question."""
    tls = Trust(credentials.ca).tls
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_3
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert len(tls.get_ca_certs()) == 1


def test_the_path_may_be_somebody_elses(credentials: Credentials, tmp_path: Path) -> None:
    """Then TLS goes by the path's authority, and the bank inside by its own as ever."""
    path = Credentials.make(tmp_path, "gateway")
    for given in (path.ca, tmp_path / "ca.crt"):
        trust = Trust(credentials.ca, path_ca=given)
        assert trust.has_path
        assert trust.tls.get_ca_certs() == Trust(path.ca).tls.get_ca_certs() != Trust(credentials.ca).tls.get_ca_certs()
        trust.verify(BANK, credentials.identity, static_public_key(credentials.static_private))
    assert not Trust(credentials.ca).has_path
    with pytest.raises(UsageError):
        Trust(credentials.ca, path_ca=tmp_path / "missing.crt")


def test_the_bank_proves_its_static_key(credentials: Credentials) -> None:
    """Its certificate's signature over the static key is accepted; another key or bank is not."""
    trust, static = Trust(credentials.ca), static_public_key(credentials.static_private)
    trust.verify(BANK, credentials.identity, static)
    for bank, key in (("b", static), (BANK, bytes(32))):
        with pytest.raises(ServerNotTrusted):
            trust.verify(bank, credentials.identity, key)


def test_a_pinned_fingerprint_must_be_there(credentials: Credentials) -> None:
    """The bank's own certificate can be pinned, with or without colons; any other fingerprint fails."""
    static = static_public_key(credentials.static_private)
    pairs = [credentials.fingerprint[at : at + 2] for at in range(0, 64, 2)]
    for fingerprint in (credentials.fingerprint, ":".join(pairs).upper()):
        Trust(credentials.ca, fingerprint).verify(BANK, credentials.identity, static)
    with pytest.raises(ServerNotTrusted, match="pinned"):
        Trust(credentials.ca, "00" * 32).verify(BANK, credentials.identity, static)


def test_the_authority_comes_from_a_file_or_from_memory(credentials: Credentials, tmp_path: Path) -> None:
    """A path may be text or an object."""
    path = tmp_path / "ca.crt"
    path.write_bytes(credentials.ca)
    static = static_public_key(credentials.static_private)
    for ca in (path, str(path)):
        Trust(ca).verify(BANK, credentials.identity, static)


def test_what_cannot_be_trusted_is_told_at_once(credentials: Credentials, tmp_path: Path) -> None:
    """A missing file, a file without certificate, a fingerprint that is none."""
    with pytest.raises(UsageError, match="cannot be read"):
        Trust(tmp_path / "missing.crt")
    for ca in (b"", b"hello", b"\xff\xfe"):
        with pytest.raises(UsageError, match="no certificate"):
            Trust(ca)
    with pytest.raises(UsageError, match="fingerprint"):
        Trust(credentials.ca, "abc")
