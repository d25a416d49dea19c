"""``driftline keys``: create, list, rotate and revoke API keys, and read the audit log, in the service's database."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)
Database = Annotated[
    str | None,
    typer.Option(
        help="Database URL. Default: $DRIFTLINE_DATABASE, or state/driftline.db under the storage root.",
        show_default=False,
    ),
]
KeyId = Annotated[str, typer.Argument(help="As shown by `driftline keys list`.")]
_DURATION = re.compile(r"(\d{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command(epilog="Example: driftline keys create --name demo --scope read --scope write --rate 50 --burst 100")
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option(help="read, write or admin; may be given more than once.")],
    tenant: Annotated[str, typer.Option(help="Whose data the key opens.")] = "default",
    rate: Annotated[
        float | None,
        typer.Option(help="Requests per second in the long run. Default: the service's setting.", show_default=False),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(help="Requests at once, with --rate. Default: those of one second.", show_default=False),
    ] = None,
    database: Database = None,
) -> None:
    """Make a key and print it, alone on standard output. It cannot be shown again."""
    from driftline.errors import ConfigError
    from driftline.serving.calls import RateLimit
    from driftline.serving.keys import create_key
    from driftline.state.store import Store

    if rate is None and burst is not None:
        raise ConfigError([f"burst={burst} without a rate: give --rate too"], "driftline keys create")
    limit = None if rate is None else RateLimit(rate, max(1, round(rate)) if burst is None else burst)
    typer.echo(create_key(Store(_url(database)), tenant, name, scope, limit))


@app.command("list")
def list_all(database: Database = None) -> None:
    """List the keys without their secrets."""
    from driftline.serving.keys import list_keys
    from driftline.state.store import Store

    for key in list_keys(Store(_url(database))):
        state = "valid"
        if key.revoked_at is not None:
            state = f"revoked {_moment(key.revoked_at)}"
        elif key.expires_at is not None:
            state = f"expires {_moment(key.expires_at)}"
        created = f"created {_moment(key.created_at)}"
        limit = f"{key.limit.per_second:g}/s, {key.limit.burst} at once" if key.limit else "no limit of its own"
        typer.echo("  ".join([key.key_id, key.tenant, ",".join(key.scopes), created, state, limit, key.name]))


@app.command(epilog="Example: driftline keys rotate 3f0c9a1be27d --overlap 24h")
def rotate(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long both keys work: a number with s, m, h or d.")] = "24h",
    database: Database = None,
) -> None:
    """Make a successor of a key and print it, alone on standard output; the old key closes after the overlap."""
    from driftline.serving.keys import rotate_key
    from driftline.state.store import Store

    typer.echo(rotate_key(Store(_url(database)), key_id, _seconds(overlap)))


@app.command(epilog="Example: driftline keys revoke 3f0c9a1be27d")
def revoke(key_id: KeyId, database: Database = None) -> None:
    """Close a key for good; running services follow within seconds."""
    from driftline.serving.keys import revoke_key
    from driftline.state.store import Store

    revoke_key(Store(_url(database)), key_id)
    typer.echo(f"revoked {key_id}")


@app.command(epilog="Example: driftline keys audit --tenant default --subject ada     (was that user erased?)")
def audit(
    tenant: Annotated[str | None, typer.Option(help="Only entries of this tenant.", show_default=False)] = None,
    subject: Annotated[
        str | None,
        typer.Option(help="Only entries about this user, item, key or bundle; needs --tenant.", show_default=False),
    ] = None,
    newest: Annotated[int, typer.Option(min=1, help="How many entries, counted from the newest.")] = 100,
    database: Database = None,
) -> None:
    """List the audit log, oldest entry first. Users and items stand there as keyed hashes."""
    from driftline.errors import ConfigError
    from driftline.serving.audit import read
    from driftline.state.store import Store

    if subject is not None and tenant is None:
        raise ConfigError(["subject without a tenant: give --tenant too"], "driftline keys audit")
    for entry in read(Store(_url(database)), tenant, subject, newest):
        told = [entry.tenant, entry.actor, entry.action, entry.subject, entry.outcome]
        typer.echo("  ".join([_moment(entry.at), *told]))


def _url(database: str | None) -> str:
    from driftline.serving.app import default_database

    return database or default_database()


def _seconds(duration: str) -> float:
    from driftline.errors import ConfigError

    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ConfigError([f"overlap={duration!r}: write a number with s, m, h or d, such as 24h"])
    return float(int(match[1]) * _SECONDS[match[2]])


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
