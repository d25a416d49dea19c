"""``driftline compare``: what came of the lists of each bundle, read directly from the service's database."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from driftline.evaluation.bootstrap import Interval
    from driftline.serving.comparison import Comparison

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def compare(
    database: Annotated[
        str | None,
        typer.Option(
            help="Database URL. Default: $DRIFTLINE_DATABASE, or state/driftline.db under the storage root.",
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only lists of this tenant.", show_default=False)] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="Only lists served from then on, UTC.", show_default=False)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="Only lists served before then, UTC.", show_default=False)
    ] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="Only events of this type count (click, purchase …); may be repeated.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every figure instead of tables.")] = False,
) -> None:
    """Compare bundles by what came of the lists they served: a rate by arm, with 95 % intervals.

    A list counts as a hit if an event of its user carries its request_id and is about an item in it. Choose a period in
    which both arms served, or other things than the bundle make the difference.
    """
    from driftline.serving import comparison
    from driftline.serving.app import default_database
    from driftline.state.store import Store

    bounds = {
        name: moment.replace(tzinfo=UTC).timestamp()
        for name, moment in (("since", since), ("until", until))
        if moment is not None
    }
    store = Store(database or default_database())
    found = comparison.compare(store, comparison.Period(tenant, **bounds, event_types=tuple(event_type or ())))
    store.close()
    if as_json:
        typer.echo(found.to_json())
    else:
        _print(found, Console())


def _print(found: "Comparison", console: Console) -> None:
    if not found.arms:
        console.print("no lists were served in this period")
        return
    arms = Table("arm", "bundle", "from", "to", "lists", "users", "hits", "rate [95 %]", title="Lists and their events")
    for arm in found.arms:
        counts = (str(arm.rate.trials), str(arm.rate.clusters), str(arm.rate.hits))
        period = (_moment(arm.first_served_at), _moment(arm.last_served_at))
        arms.add_row(arm.arm, arm.bundle, *period, *counts, _shown(arm.rate.interval))
    console.print(arms)
    if found.gaps:
        gaps = Table("challenger", "champion", "difference [95 %]", title="Challenger minus champion")
        for gap in found.gaps:
            gaps.add_row(gap.challenger, gap.champion, _shown(gap.difference))
        console.print(gaps)
    if found.shadows:
        table = Table("shadow", "served", "lists", "overlap [95 %]", "rank correlation [95 %]", title="Shadow lists")
        for shadow in found.shadows:
            correlation = "none" if shadow.rank_correlation is None else _shown(shadow.rank_correlation)
            table.add_row(shadow.shadow, shadow.champion, str(shadow.lists), _shown(shadow.overlap), correlation)
        console.print(table)


def _shown(interval: "Interval") -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d %H:%M")
