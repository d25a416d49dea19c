"""``driftline keys``: create, list and revoke API keys, directly in the service's database."""

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


@app.command(epilog="Example: driftline keys create --name demo --scope read --scope write")
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option(help="read, write or admin; may be given more than once.")],
    tenant: Annotated[str, typer.Option(help="Whose data the key opens.")] = "default",
    database: Database = None,
) -> None:
    """Make a key and print it, alone on standard output. It cannot be shown again."""
    from driftline.events.store import Store
    from driftline.serving.auth import create_key

    typer.echo(create_key(Store(_url(database)), tenant, name, scope))


@app.command("list")
def list_all(database: Database = None) -> None:
    """List the keys without their secrets."""
    from driftline.events.store import Store
    from driftline.serving.auth import list_keys

    for key in list_keys(Store(_url(database))):
        state = f"revoked {_moment(key.revoked_at)}" if key.revoked_at else "valid"
        created = f"created {_moment(key.created_at)}"
        typer.echo("  ".join([key.key_id, key.tenant, ",".join(key.scopes), created, state, key.name]))


@app.command(epilog="Example: driftline keys revoke 3f0c9a1be27d")
def revoke(
    key_id: Annotated[str, typer.Argument(help="As shown by `driftline keys list`.")], database: Database = None
) -> None:
    """Close a key for good; running services follow within seconds."""
    from driftline.events.store import Store
    from driftline.serving.auth import revoke_key

    revoke_key(Store(_url(database)), key_id)
    typer.echo(f"revoked {key_id}")


def _url(database: str | None) -> str:
    from driftline.serving.app import default_database

    return database or default_database()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
