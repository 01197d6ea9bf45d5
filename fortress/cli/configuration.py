"""``config``: the settings of a bank's folder, where each comes from, whether all is in place, and a new master key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress import config
from fortress.cli.command import Call, current_call, group
from fortress.cli.failures import Exit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, Table, say, show
from fortress.cli.prompts import confirm
from fortress.config import Explanation, Settings

if TYPE_CHECKING:
    from fortress.authority import CertificateFacts

SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one setting for this call, like server.port=7700; may be repeated.",
)
FOLDER = click.argument("folder", type=click.Path(path_type=Path), required=False)


def load_settings(call: Call, folder: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read the settings of the folder named, else of ``--config``, else of the present one.

    Args:
        call: how this call behaves.
        folder: named on the command line, if one was.
        overrides: ``KEY=VALUE`` texts from the command line.

    Raises:
        Misuse: an override has no ``=``.
        FolderMissing, SettingUnknown, SettingInvalid: as :func:`fortress.config.load`.
    """
    return config.load(folder or call.config, overrides_of(overrides), os.environ)


def overrides_of(texts: Sequence[str]) -> dict[str, str]:
    """Take ``KEY=VALUE`` texts of the command line apart.

    Raises:
        Misuse: one has no ``=``.
    """
    flags = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark:
            raise Misuse(f"{text!r} sets nothing", "write it like --set server.port=7700")
        flags[key] = value
    return flags


config_command = group(
    "config",
    "Settings of a bank's folder: show, check, explain, and a new key-encryption key.",
    "fortress config show --config ./bank-a",
    "fortress config explain server.port",
)


@config_command.command("show", examples=("fortress config show", "fortress config show ./bank-a --changed --json"))
@FOLDER
@SET
@click.option("--changed", is_flag=True, help="Only those that have not their default.")
def show_command(folder: Path | None, overrides: tuple[str, ...], changed: bool) -> None:
    """List all settings with their values and where these come from."""
    call = current_call()
    settings = load_settings(call, folder, overrides)
    rows = [config.explain(settings, key) for key in config.LINES if not changed or key in settings.sources]
    show(
        call,
        {row.key: {"value": row.value, "source": row.source} for row in rows},
        Table(
            columns=("Setting", "Value", "Source"),
            rows=[(row.key, str(row.value), row.source) for row in rows],
            empty="every setting has its default",
        ),
    )


@config_command.command("explain", examples=("fortress config explain server.port",))
@click.argument("key")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@SET
def explain_command(key: str, folder: Path | None, overrides: tuple[str, ...]) -> None:
    """Say what a setting does, what it takes, and where its present value comes from."""
    call = current_call()
    config.line_of(key)
    row = config.explain(_settings_or_defaults(call, folder, overrides), key)
    pairs = [
        ("What", row.help),
        ("Value", str(row.value)),
        ("Source", row.source),
        ("Default", str(row.default)),
        ("Takes", row.takes),
        ("Variable", row.variable),
        ("New value", "taken over on SIGHUP" if row.reloadable else "needs a restart"),
    ]
    show(call, _explanation_json(row), Fields(title=row.key, pairs=pairs))


@config_command.command("check", examples=("fortress config check ./bank-a",))
@FOLDER
@SET
def check_command(folder: Path | None, overrides: tuple[str, ...]) -> int:
    """Check settings, certificates and keys of a folder; exit 0 when all is in place."""
    call = current_call()
    settings = load_settings(call, folder, overrides)
    findings = _findings(settings)
    rows = [("ok" if ok else "bad", what, reason) for what, ok, reason in findings]
    document: Json = [{"what": what, "ok": ok, "reason": reason} for what, ok, reason in findings]
    show(call, document, Table(columns=("State", "What", "Reason"), rows=rows))
    return Exit.ok if all(ok for _, ok, _ in findings) else Exit.degraded


@config_command.command("rekey", examples=("fortress config rekey ./bank-a",))
@FOLDER
@click.option("--yes", is_flag=True, help="Do not ask.")
def rekey_command(folder: Path | None, yes: bool) -> None:
    """Make a new key-encryption key and seal the node's secrets under it; the node must not run."""
    from fortress.server.folder import KEYRING_NAME, data_folder, locked

    call = current_call()
    settings = load_settings(call, folder)
    if settings.keys.key_command:
        raise Misuse("the key comes from keys.key_command", "rotate it where that command takes it from")
    key_file = settings.path(settings.keys.key_file)
    confirm(call, f"Replace the key in {str(key_file)!r}? Keep a copy of the new one: without it all is lost.", yes=yes)
    with locked(settings):
        _rekey(key_file, data_folder(settings) / KEYRING_NAME)
    say(call, "the secrets are sealed under the new key; destroy copies of the old one")
    show(call, {"key_file": str(key_file)}, f"new key: {key_file}")


def _rekey(key_file: Path, ring_file: Path) -> None:
    from fortress.ledger import keyring

    fresh = key_file.with_name(key_file.name + ".new")
    # a crash below leaves both files; the next call finds out which of them opens the keyring and goes on
    new = bytes.fromhex(fresh.read_text("ascii")) if fresh.exists() else keyring.create_kek(fresh)
    old = keyring.read_kek(key_file=key_file, key_command="", environment={})
    if not _opens(ring_file, new):
        keyring.rekey(ring_file, old, new)
    fresh.replace(key_file)


def _opens(ring_file: Path, kek: bytes) -> bool:
    from fortress.errors import KeyUnusable
    from fortress.ledger.keyring import Keyring

    try:
        Keyring.open(ring_file, kek)
    except KeyUnusable:
        return False
    return True


def _settings_or_defaults(call: Call, folder: Path | None, overrides: Sequence[str]) -> Settings:
    """Settings are explained outside of any folder too, with their defaults."""
    path = folder or call.config
    if folder is None and not (path / config.FILE_NAME).exists() and not overrides:
        return Settings(folder=path)
    return load_settings(call, folder, overrides)


def _explanation_json(row: Explanation) -> Json:
    return {
        "key": row.key,
        "help": row.help,
        "value": row.value,
        "source": row.source,
        "default": row.default,
        "takes": row.takes,
        "variable": row.variable,
        "reloadable": row.reloadable,
    }


def _findings(settings: Settings) -> list[tuple[str, bool, str]]:
    """Look at what a node needs before it starts: (what, all right, reason)."""
    from fortress import authority
    from fortress.errors import FortressError
    from fortress.ledger.keyring import read_kek

    found = [("settings", True, f"{len(config.LINES)} settings, {len(settings.sources)} not at their default")]
    folders = {settings.path(path).parent for path in (settings.tls.certificate, settings.tls.ca)}
    try:
        for folder in sorted(folders):
            found += [(f"certificate {facts.name}", *_certificate_state(facts)) for facts in authority.show(folder)]
    except FortressError as exc:
        found.append(("certificates", False, exc.message))
    try:
        read_kek(
            key_file=settings.path(settings.keys.key_file),
            key_command=settings.keys.key_command,
            environment=os.environ,
        )
        found.append(("key-encryption key", True, "readable"))
    except FortressError as exc:
        found.append(("key-encryption key", False, exc.message))
    return [*found, *_links(settings)]


def _links(settings: Settings) -> list[tuple[str, bool, str]]:
    """Look at what a bank needs to reach its gateway, and at what a gateway needs: (what, all right, reason)."""
    from fortress.cli.gateways import read_authority
    from fortress.errors import FortressError

    gateway, switch = settings.gateway, settings.switch
    if switch.listen:
        if gateway.addresses:
            return [("gateway", False, "it is a gateway and names one as well; empty gateway.addresses")]
        return [("gateway", True, f"takes banks on {switch.listen}")]
    if not gateway.addresses:
        return []
    try:
        read_authority(settings.path(gateway.authority))
    except FortressError as exc:
        return [("gateway's authority", False, exc.message)]
    return [("gateway's authority", True, f"readable; {gateway.bank} is at {gateway.addresses}")]


def _certificate_state(facts: CertificateFacts) -> tuple[bool, str]:
    if facts.valid_to <= datetime.now(UTC):
        return False, f"expired on {facts.valid_to:%Y-%m-%d}"
    # the authority's key may well be kept elsewhere
    if not facts.key_fits and facts.kind.value != "authority":
        return False, "its key is missing, open to others, or another certificate's"
    return True, f"valid to {facts.valid_to:%Y-%m-%d}"
