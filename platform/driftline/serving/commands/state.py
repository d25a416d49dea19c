"""``driftline state``: move what the service has stored from one database to another."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The service's state: events, catalogue, drift states and served lists.", no_args_is_help=True)
Database = Annotated[
    str | None,
    typer.Option(
        help="Database URL, sqlite:////absolute/path.db or postgresql://user:password@host:port/name. "
        "Default: $DRIFTLINE_DATABASE, or state/driftline.db under the storage root.",
        show_default=False,
    ),
]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant. Default: all of them.", show_default=False)]


@app.command("export", epilog="Example: driftline state export --out ./state-export")
def export_all(
    out: Annotated[Path, typer.Option(help="Directory to write Parquet files into; empty or not there yet.")],
    database: Database = None,
    tenant: Tenant = None,
) -> None:
    """Write the state of one moment as Parquet files; the service may go on meanwhile.

    API keys, webhooks, the audit log and promotions are not exported. All or nothing: a directory is complete once it
    holds manifest.json.
    """
    from driftline.state.store import Store
    from driftline.state.transfer import export_state

    _print(export_state(Store(_url(database)), out, tenant))


@app.command("import", epilog="Example: driftline state import --source ./state-export --database postgresql://…")
def import_all(
    source: Annotated[Path, typer.Option(help="Directory that `driftline state export` has written.")],
    database: Database = None,
    tenant: Tenant = None,
) -> None:
    """Read an export into a database that holds nothing of the exported tenants.

    All or nothing: one transaction. What it needs beside is keys: driftline keys create.
    """
    from driftline.state.store import Store
    from driftline.state.transfer import import_state

    _print(import_state(Store(_url(database)), source, tenant))


def _url(database: str | None) -> str:
    if database is not None:
        return database
    from driftline.serving.app import default_database

    return default_database()


def _print(rows: dict[str, int]) -> None:
    for table, count in rows.items():
        typer.echo(f"{table:<14}{count:>12,}")
