"""Client contexts: which bank at which address, who one is there, and the token of the session.

A context is a section of ``contexts.toml`` in the configuration folder, with the CA's certificate copied beside it, so
that trust does not hang on a file elsewhere; its fingerprint is kept and compared at each use. The token lies in the
state folder. All files are of mode 0600, written anew and moved into place. Neither file ever holds a password.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final

from fortress.cli.misuse import Misuse
from fortress.client.address import SCHEME, format_endpoint, parse
from fortress.errors import NotSignedIn, ServerNotTrusted

HOME_VARIABLE: Final = "FORTRESS_CONTEXT_HOME"
FILE_NAME: Final = "contexts.toml"
NAME_PATTERN: Final = r"[a-z0-9][a-z0-9._@-]{0,63}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who one is, and where.

    Attributes:
        name: what it is called here.
        address: ``host:port``, several parted by commas.
        bank: the bank's id.
        username: who signs in.
        ca: file name of the CA's certificate, beside the contexts file.
        ca_sha256: fingerprint of that certificate, hexadecimal.
        path_ca: likewise of the CA of who answers at the address, if that is not the bank itself; else empty.
        path_ca_sha256: likewise.
    """

    name: str
    address: str
    bank: str
    username: str
    ca: str
    ca_sha256: str
    path_ca: str = ""
    path_ca_sha256: str = ""

    @property
    def url(self) -> str:
        """The address as the client library takes it."""
        return f"{SCHEME}{self.address}/{self.bank}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A session that may be gone on with.

    Attributes:
        username: whose it is.
        token: as the bank gave it.
        expires_us: when it ends.
    """

    username: str
    token: str
    expires_us: int


def context_folders(environment: Mapping[str, str]) -> tuple[Path, Path]:
    """Give the folders for contexts and for tokens: the platform's, or those below one's own choice."""
    home = environment.get(HOME_VARIABLE)
    if home:
        return Path(home), Path(home) / "state"
    from platformdirs import user_config_path, user_state_path  # not needed where the choice was made

    return user_config_path("fortress"), user_state_path("fortress")


def parse_address(text: str) -> tuple[str, str]:
    """Take ``[fortress://]host:port[,host:port]/bank`` apart into the nodes and the bank.

    Raises:
        UsageError: it is not of that shape.
    """
    address = parse(text if text.startswith(SCHEME) else SCHEME + text)
    return ",".join(format_endpoint(endpoint) for endpoint in address.endpoints), address.bank


def certificate_fingerprint(pem: str) -> str:
    """Give the SHA-256 of the first certificate of a PEM text, hexadecimal.

    Raises:
        Misuse: there is no certificate in it.
    """
    block = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    try:
        der = ssl.PEM_cert_to_DER_cert(block[0]) if block else b""
    except ValueError:
        der = b""
    if der.startswith(b"\x30"):  # a certificate is an ASN.1 sequence
        return hashlib.sha256(der).hexdigest()
    raise Misuse("the CA file holds no certificate", "give the ca.crt that 'fortress init' made")


class Contexts:
    """The contexts of one person on this machine."""

    def __init__(self, folder: Path, state_folder: Path) -> None:
        self._folder = folder
        self._state_folder = state_folder

    def names(self) -> list[str]:
        """List all contexts."""
        return sorted(self._read()[1])

    def current(self) -> str:
        """Name the one that is used when none is named; empty if there is none."""
        return self._read()[0]

    def get(self, name: str = "") -> Context:
        """Give a context, the current one by default.

        Raises:
            NotSignedIn: there is none yet.
            Misuse: there is none of this name.
        """
        current, contexts = self._read()
        if not contexts and not name:
            raise NotSignedIn("there is no context yet: sign in with 'fortress login NAME --address ... --ca ...'")
        if (name or current) not in contexts:
            known = ", ".join(sorted(contexts)) or "none"
            raise Misuse(f"there is no context {(name or current)!r}", f"choose one of: {known}")
        return contexts[name or current]

    def ca_file(self, context: Context) -> Path:
        """Give the CA's certificate of a context, compared with its fingerprint.

        Raises:
            ServerNotTrusted: the file is not there or is another one.
        """
        return _same_as_ever(self._folder / context.ca, context.ca_sha256)

    def path_ca_file(self, context: Context) -> Path | None:
        """Give likewise the CA's certificate of who answers at the address; None if that is the bank itself.

        Raises:
            ServerNotTrusted: the file is not there or is another one.
        """
        return _same_as_ever(self._folder / context.path_ca, context.path_ca_sha256) if context.path_ca else None

    def make(self, name: str, *, address: str, username: str, ca_pem: str, path_ca_pem: str = "") -> Context:
        """Keep a context and make it the current one; one of the same name is replaced.

        Args:
            name: what it shall be called; empty for ``username@bank``.
            address: ``host:port[,host:port]/bank``.
            username: who signs in.
            ca_pem: the CA's certificate.
            path_ca_pem: that of the CA of who answers at the address, if that is not the bank itself.
        """
        hosts, bank = parse_address(address)
        name = name or f"{username}@{bank}"
        if not re.fullmatch(NAME_PATTERN, name):
            raise Misuse(f"{name!r} cannot name a context", "use small letters, digits, dot, dash and @")
        fingerprint = certificate_fingerprint(ca_pem)
        context = Context(
            name=name, address=hosts, bank=bank, username=username, ca=f"{name}.crt", ca_sha256=fingerprint
        )
        if path_ca_pem:
            # no name has a plus sign, so no other context has this file
            path_fingerprint = certificate_fingerprint(path_ca_pem)
            context = replace(context, path_ca=f"{name}+path.crt", path_ca_sha256=path_fingerprint)
            _write(self._folder / context.path_ca, path_ca_pem)
        _write(self._folder / context.ca, ca_pem)
        self._write_all(name, {**self._read()[1], name: context})
        return context

    def use(self, name: str) -> Context:
        """Make a context the current one."""
        context = self.get(name)
        self._write_all(name, self._read()[1])
        return context

    def forget(self, name: str) -> None:
        """Take a context away, with its token."""
        context = self.get(name)
        current, contexts = self._read()
        self.forget_token(context)
        for file in (context.ca, *([context.path_ca] if context.path_ca else [])):
            (self._folder / file).unlink(missing_ok=True)
        rest = {key: value for key, value in contexts.items() if key != name}
        self._write_all(current if current != name else next(iter(sorted(rest)), ""), rest)

    def token(self, context: Context) -> Token | None:
        """Give the token of the context's session, if there is one."""
        try:
            return Token(**json.loads(self._token_file(context).read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def outbox_file(self, context: Context) -> Path:
        """Give where the payments of a context wait until they are done."""
        return self._state_folder / f"{context.name}.outbox"

    def keep_token(self, context: Context, token: Token) -> None:
        """Keep the token of a session."""
        _write(self._token_file(context), json.dumps(asdict(token)))

    def forget_token(self, context: Context) -> None:
        """Throw the token away."""
        self._token_file(context).unlink(missing_ok=True)

    def _token_file(self, context: Context) -> Path:
        return self._state_folder / f"{context.name}.token"

    def _read(self) -> tuple[str, dict[str, Context]]:
        path = self._folder / FILE_NAME
        try:
            document = tomllib.loads(path.read_text("utf-8"))
            sections = document.get("contexts", {})
            return str(document.get("current", "")), {
                name: Context(name=name, **{key: str(value) for key, value in section.items()})
                for name, section in sections.items()
            }
        except FileNotFoundError:
            return "", {}
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            message = f"{str(path)!r} cannot be read: {exc}"
            raise Misuse(message, "correct it, or take it away and sign in again") from exc

    def _write_all(self, current: str, contexts: dict[str, Context]) -> None:
        lines = [f"current = {json.dumps(current)}"]
        for name, context in sorted(contexts.items()):
            lines.append(f"\n[contexts.{json.dumps(name)}]")
            keys = [field.name for field in fields(Context) if field.name != "name"]
            lines += [f"{key} = {json.dumps(getattr(context, key))}" for key in keys]
        _write(self._folder / FILE_NAME, "\n".join(lines) + "\n")


def _same_as_ever(path: Path, fingerprint: str) -> Path:
    try:
        found = certificate_fingerprint(path.read_text("ascii", "replace"))
    except (OSError, Misuse) as exc:
        raise ServerNotTrusted(f"the CA file {str(path)!r} of this context cannot be read") from exc
    if found != fingerprint:
        raise ServerNotTrusted(f"the CA file {str(path)!r} is not the one that was trusted at login")
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
