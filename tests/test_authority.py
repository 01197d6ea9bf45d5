"""The certificate authority: what its certificates prove to TLS, what they cannot be used for, how files are kept."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fortress.authority import (
    LOCAL_HOSTS,
    Kind,
    adopt,
    issue,
    load_certificate,
    make_authority,
    make_development_certificates,
    renew,
    show,
)
from fortress.errors import CertificateUnusable, FolderExists, UsageError

NOON = datetime(2030, 1, 1, 12, 0, 0, 999_999, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_authority(tmp_path, "a")
    return tmp_path


def context(folder: Path, name: str, *, server: bool, ca: Path | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(ca or folder / "ca.crt")
    made.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return made


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Do a whole TLS handshake in memory; give the client's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(sides)
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return sides[0]
    raise AssertionError("the handshake does not end")


# --- what they prove ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_two_nodes_trust_each_other_under_strict_rules(folder: Path, host: str) -> None:
    """Both sides show a node's certificate, checked as strictly as OpenSSL can, by name and by address."""
    issue(folder, Kind.node, bank="a")
    issue(folder, Kind.node, bank="a", name="standby")
    client = shake_hands(context(folder, "standby", server=False), context(folder, "node", server=True), host)
    peer = client.getpeercert()
    assert peer is not None
    assert ("URI", "urn:fortress:bank:a") in peer["subjectAltName"]


def test_a_host_that_is_not_named_is_not_trusted(folder: Path) -> None:
    """The certificate holds for its own names only."""
    issue(folder, Kind.node, bank="a", hosts=["node.example"])
    server = context(folder, "node", server=True)
    shake_hands(context(folder, "node", server=False), server, "node.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(context(folder, "node", server=False), server, "localhost")


def test_another_authority_of_the_same_title_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    """Names do not make trust, keys do."""
    other = tmp_path / "other"
    make_authority(other, "a")
    issue(folder, Kind.node, bank="a")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(
            context(folder, "node", server=False, ca=other / "ca.crt"),
            context(folder, "node", server=True),
            "localhost",
        )


def test_a_banks_certificate_is_no_good_for_tls(folder: Path) -> None:
    """Kinds cannot stand in for each other: whoever ends TLS does not thereby speak as the bank."""
    issue(folder, Kind.node, bank="a")
    issue(folder, Kind.bank, bank="a")
    with pytest.raises(ssl.SSLCertVerificationError, match="(?i)unsuitable|unsupported"):
        shake_hands(context(folder, "node", server=False), context(folder, "bank", server=True), "localhost")


def test_a_banks_certificate_names_the_bank_and_signs(folder: Path) -> None:
    """Its key signs statements; it names no machine."""
    made = issue(folder, Kind.bank, bank="my-bank-2")
    certificate = load_certificate(folder / "bank.crt")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:fortress:bank:my-bank-2"]
    assert (made.kind, made.bank, made.hosts, made.key_fits) == (Kind.bank, "my-bank-2", (), True)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature and not usage.value.key_cert_sign
    certificate.verify_directly_issued_by(load_certificate(folder / "ca.crt"))


def test_the_authority_may_sign_nodes_but_no_authorities(folder: Path) -> None:
    """A path length of zero, marked critical, ends the chain below it."""
    extension = load_certificate(folder / "ca.crt").extensions.get_extension_for_class(x509.BasicConstraints)
    assert (extension.critical, extension.value.ca, extension.value.path_length) == (True, True, 0)


# --- dates and numbers ----------------------------------------------------------------------------------------------


def test_certificates_start_five_minutes_back(tmp_path: Path) -> None:
    """Ten years for the authority, one for a node, in whole seconds, from a little before now."""
    root = make_authority(tmp_path, "a", now=NOON)
    node = issue(tmp_path, Kind.node, bank="a", now=NOON)
    start = NOON.replace(microsecond=0) - timedelta(minutes=5)
    assert (root.valid_from, node.valid_from) == (start, start)
    assert root.valid_to - start > timedelta(days=3650)
    assert node.valid_to == NOON.replace(microsecond=0) + timedelta(days=365)


def test_nothing_outlives_its_authority(tmp_path: Path) -> None:
    """A certificate made in the authority's last year ends with it."""
    root = make_authority(tmp_path, "a", now=NOON)
    assert issue(tmp_path, Kind.node, bank="a", now=root.valid_to - timedelta(days=1)).valid_to == root.valid_to


def test_an_expired_authority_signs_nothing_until_renewed(tmp_path: Path) -> None:
    """It says so, and after a renewal goes on under the same key."""
    root = make_authority(tmp_path, "a", now=NOON)
    late = root.valid_to + timedelta(days=1)
    with pytest.raises(CertificateUnusable, match="expired"):
        issue(tmp_path, Kind.node, bank="a", now=late)
    renew(tmp_path, "ca", now=late)
    assert issue(tmp_path, Kind.node, bank="a", now=late).valid_to > late


def test_serial_numbers_are_random(folder: Path) -> None:
    """No two certificates share one, and none can be guessed."""
    serials = {issue(folder, Kind.node, bank="a", name=f"n{number}").serial for number in range(3)}
    assert len(serials) == 3
    assert all(int(serial, 16) > 2**64 for serial in serials)


# --- renewal --------------------------------------------------------------------------------------------------------


def test_a_renewed_certificate_has_the_same_names_and_a_new_key(folder: Path) -> None:
    """A node goes on with fresh dates, serial and key; its peers notice nothing."""
    months_ago = datetime.now(UTC) - timedelta(days=300)
    old = issue(folder, Kind.node, bank="a", hosts=["node.example", "10.0.0.1", "fd00::1"], now=months_ago)
    old_key = (folder / "node.key").read_bytes()
    new = renew(folder, "node")
    assert (new.kind, new.bank, new.hosts, new.subject) == (old.kind, old.bank, old.hosts, old.subject)
    assert new.valid_to > old.valid_to
    assert new.serial != old.serial
    assert (folder / "node.key").read_bytes() != old_key
    shake_hands(context(folder, "node", server=False), context(folder, "node", server=True), "node.example")


def test_a_bank_is_renewed_as_a_bank(folder: Path) -> None:
    """Its certificate stays one that TLS refuses."""
    issue(folder, Kind.bank, bank="a")
    assert (renew(folder, "bank").kind, renew(folder, "bank").hosts) == (Kind.bank, ())


def test_a_renewed_authority_still_vouches_for_what_it_signed(folder: Path) -> None:
    """It keeps its key, so clients that have the old certificate and those that have the new one agree."""
    issue(folder, Kind.node, bank="a")
    old_root = folder / "old.pem"
    old_root.write_bytes((folder / "ca.crt").read_bytes())
    renew(folder, "ca")
    issue(folder, Kind.node, bank="a", name="later")
    server = context(folder, "node", server=True)
    shake_hands(context(folder, "later", server=False), server, "localhost")
    shake_hands(
        context(folder, "node", server=False, ca=old_root),
        context(folder, "later", server=True, ca=old_root),
        "localhost",
    )


def test_renewing_mends_a_key_that_does_not_fit(folder: Path) -> None:
    """What a crash between two renames leaves behind is seen and repaired."""
    issue(folder, Kind.node, bank="a")
    issue(folder, Kind.node, bank="a", name="other")
    (folder / "other.key").replace(folder / "node.key")
    assert [facts.key_fits for facts in show(folder)] == [True, False, False]
    assert renew(folder, "node").key_fits


# --- showing --------------------------------------------------------------------------------------------------------


def test_show_tells_about_all_certificates(folder: Path) -> None:
    """The authority comes first; each has what an operator asks for."""
    issue(folder, Kind.bank, bank="a")
    node = issue(folder, Kind.node, bank="a")
    shown = show(folder)
    assert [facts.name for facts in shown] == ["ca", "bank", "node"]
    assert [facts.kind for facts in shown] == [Kind.authority, Kind.bank, Kind.node]
    assert shown[2] == node
    assert shown[0].subject == shown[0].issuer == shown[1].issuer
    assert (shown[0].bank, shown[0].hosts) == ("", ())
    der = load_certificate(folder / "node.crt").public_bytes(serialization.Encoding.DER)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    assert node.fingerprint == digest.finalize().hex()


def test_an_empty_folder_shows_nothing(tmp_path: Path) -> None:
    """There is nothing to tell, which is no error."""
    assert show(tmp_path) == ()


# --- files ----------------------------------------------------------------------------------------------------------


def test_only_the_owner_reads_keys(folder: Path) -> None:
    """Keys have mode 0600 whatever the umask, and nothing is left beside the files."""
    before = os.umask(0)
    try:
        issue(folder, Kind.node, bank="a")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "ca.key", "node.crt", "node.key"]


def test_a_failed_write_leaves_the_old_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk during a renewal costs nothing."""
    issue(folder, Kind.node, bank="a")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CertificateUnusable, match="No space left"):
        renew(folder, "node")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_authority_is_never_overwritten(folder: Path) -> None:
    """Not even when only its key is left."""
    with pytest.raises(FolderExists):
        make_authority(folder, "a")
    (folder / "ca.crt").unlink()
    with pytest.raises(FolderExists):
        make_authority(folder, "a")


def test_a_taken_name_is_not_overwritten(folder: Path) -> None:
    """Issuing again says that renewing is meant."""
    issue(folder, Kind.node, bank="a")
    with pytest.raises(UsageError, match="renew"):
        issue(folder, Kind.node, bank="a")


@pytest.mark.parametrize(
    ("kind", "bank", "name", "hosts"),
    [
        (Kind.authority, "a", "", ()),
        (Kind.node, "a", "ca", ()),
        (Kind.node, "a", "../node", ()),
        (Kind.node, "A", "", ()),
        (Kind.node, "", "", ()),
        (Kind.node, "a:b", "", ()),
        (Kind.node, "a", "", ["no host"]),
        (Kind.node, "a", "", ["-x.example"]),
        (Kind.node, "a", "", ["bänk.example"]),
        (Kind.node, "a", "", ["a." * 127 + "example"]),
        (Kind.node, "a", "", [""]),
    ],
)
def test_what_makes_no_sense_is_not_issued(
    folder: Path, kind: Kind, bank: str, name: str, hosts: Sequence[str]
) -> None:
    """Wrong kinds, names, banks and hosts are refused and leave nothing behind."""
    with pytest.raises(UsageError):
        issue(folder, kind, bank=bank, name=name, hosts=hosts)
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "ca.key"]


def ed25519_key() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    return pem(key)


def other_key() -> bytes:
    return pem(ec.generate_private_key(ec.SECP256R1()))


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (None, 0o600, "cannot be read"),
        (b"nonsense", 0o600, "not a private key"),
        (ed25519_key(), 0o600, "not the key of its certificate"),
        (other_key(), 0o600, "not the key of its certificate"),
        ("same", 0o640, "read by others"),
    ],
)
def test_an_authority_without_its_key_signs_nothing(
    folder: Path, content: bytes | str | None, mode: int, why: str
) -> None:
    """A missing, damaged, strange or open key is named with its file."""
    key = folder / "ca.key"
    if content is None:
        key.unlink()
    else:
        key.write_bytes(content if isinstance(content, bytes) else key.read_bytes())
        key.chmod(mode)
    with pytest.raises(CertificateUnusable, match=why) as caught:
        issue(folder, Kind.node, bank="a")
    assert caught.value.facts["file"] == str(key)


@pytest.mark.parametrize(("content", "why"), [(None, "cannot be read"), (b"nonsense", "not a certificate")])
def test_an_unusable_certificate_is_named(folder: Path, content: bytes | None, why: str) -> None:
    """Renewing something that is not there, or is no certificate, says which file."""
    if content is not None:
        (folder / "node.crt").write_bytes(content)
    with pytest.raises(CertificateUnusable, match=why) as caught:
        renew(folder, "node")
    assert caught.value.facts["file"] == str(folder / "node.crt")


def test_development_certificates_are_made_and_renewed(tmp_path: Path) -> None:
    """The folder is filled once; a second time renews what the same authority signed."""
    first = make_development_certificates(tmp_path)
    second = make_development_certificates(tmp_path)
    assert [facts.name for facts in first] == ["ca", "bank", "node"]
    assert second[0] == first[0]
    assert second[1].serial != first[1].serial
    assert all(facts.key_fits for facts in second)


def test_another_folders_authority_signs(tmp_path: Path) -> None:
    """A node's folder needs no key of the authority; renewing keeps its names and may add some."""
    make_authority(tmp_path / "ca", "bank")
    issue(tmp_path / "node", Kind.node, bank="bank", authority_folder=tmp_path / "ca")
    with pytest.raises(CertificateUnusable):
        renew(tmp_path / "node", "node")
    fresh = renew(tmp_path / "node", "node", more_hosts=("two.example", "localhost"), authority_folder=tmp_path / "ca")
    assert sorted(fresh.hosts) == sorted((*LOCAL_HOSTS, "two.example"))
    assert {path.name for path in (tmp_path / "node").iterdir()} == {"node.crt", "node.key"}


def test_a_certificate_is_adopted_with_or_without_its_key(tmp_path: Path) -> None:
    """Who may speak for it gets the key; who only trusts it does not."""
    make_authority(tmp_path / "ca", "bank")
    assert not adopt(tmp_path / "node", tmp_path / "ca", "ca", with_key=False).key_fits
    assert not (tmp_path / "node" / "ca.key").exists()
    assert adopt(tmp_path / "other", tmp_path / "ca", "ca", with_key=True).key_fits
    (tmp_path / "ca" / "ca.key").unlink()
    with pytest.raises(CertificateUnusable):
        adopt(tmp_path / "third", tmp_path / "ca", "ca", with_key=True)
