"""Promotions: which bundles are in force, as a log in the store that every replica follows.

What is configured (``user_config``) is where a service begins. A promotion outlives replicas and restarts, for it lies
in the database; it holds for as long as the configuration names the champion that it was made over, so whoever deploys
another bundle is not overruled by an older promotion. A promotion replaces the one before; a rollback restores what
that one had replaced.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, insert, select

from driftline.errors import DriftlineError
from driftline.serving.arms import Arms
from driftline.serving.audit import Deed, write
from driftline.state.store import Store
from driftline.state.tables import promotions

Mode = Literal["champion", "challenger", "shadow", "rollback"]
_CONFIGURED = 0
"""In ``previous``: a rollback returns to what is configured."""


class PromotionError(DriftlineError):
    """A change that makes no sense after those before."""


@dataclass(frozen=True)
class Change:
    """What to put in force.

    Parameters
    ----------
    mode
        ``champion``: ``bundle`` answers everybody. ``challenger``: it answers ``weight`` of the users beside the
        champion now in force. ``shadow``: it makes lists for them that nobody sees. ``rollback``: take back the last
        change.
    bundle
        Directory; empty for a rollback.
    weight
        Of challenger and shadow.
    tenant, key_id
        Who asks, for the audit log.
    """

    mode: Mode
    bundle: str
    weight: float
    tenant: str
    key_id: str


@dataclass(frozen=True)
class Promotion:
    """One entry of the log; ``promoted_at`` in seconds since the epoch."""

    number: int
    mode: Mode
    arms: Arms
    promoted_at: float
    key_id: str


def find_promotion(store: Store, champion: str) -> Promotion | None:
    """The promotion in force over a configured champion; ``None`` if there is none."""
    with store.engine.begin() as connection:
        found = _newest(connection, champion)
    return found[0] if found else None


def promote(store: Store, configured: Arms, change: Change) -> Promotion:
    """Add a change to the log.

    Raises
    ------
    PromotionError
        If there is nothing to roll back, or the challenger would be the champion.
    """
    with store.writer.begin() as connection:
        found = _newest(connection, configured.champion, lock=True)
        if change.mode == "rollback":
            arms, previous = _replaced(connection, configured, found)
        else:
            now = found[0].arms if found else configured
            arms, previous = _changed(now, change), found[0].number if found else _CONFIGURED
        asked = f"{change.mode} {Path(change.bundle).name}" if change.bundle else change.mode
        write(connection, Deed(change.tenant, change.key_id, "bundle.promote", asked))
        row = {
            "configured": configured.champion,
            "mode": change.mode,
            "arms": arms.model_dump_json(),
            "previous": previous,
            "promoted_at": time.time(),
            "key_id": change.key_id,
        }
        number = connection.execute(insert(promotions).values(row).returning(promotions.c.seq)).scalar_one()
    return Promotion(number, change.mode, arms, float(row["promoted_at"] or 0), change.key_id)


def _changed(now: Arms, change: Change) -> Arms:
    if change.mode == "champion":
        return Arms(champion=change.bundle)
    if change.bundle == now.champion:
        raise PromotionError(f"{change.bundle} is the champion in force: name another bundle to challenge it")
    return Arms(
        champion=now.champion,
        challenger=change.bundle,
        challenger_weight=change.weight,
        shadow=change.mode == "shadow",
    )


def _replaced(
    connection: Connection, configured: Arms, found: tuple[Promotion, int | None] | None
) -> tuple[Arms, int | None]:
    """Arms that the newest promotion replaced, and what a further rollback returns to."""
    if found is None or found[1] is None:
        raise PromotionError("nothing was promoted over the configured bundle that could be rolled back")
    if found[1] == _CONFIGURED:
        return configured, None
    row = connection.execute(select(promotions.c.arms, promotions.c.previous).where(promotions.c.seq == found[1])).one()
    return Arms.model_validate_json(row[0]), row[1]


def _newest(connection: Connection, champion: str, lock: bool = False) -> tuple[Promotion, int | None] | None:
    """The newest promotion over a configured champion, and the number of what it replaced."""
    statement = select(promotions).where(promotions.c.configured == champion).order_by(promotions.c.seq.desc()).limit(1)
    row = connection.execute(statement.with_for_update() if lock else statement).mappings().one_or_none()
    if row is None:
        return None
    arms = Arms.model_validate_json(row["arms"])
    return Promotion(row["seq"], row["mode"], arms, row["promoted_at"], row["key_id"]), row["previous"]
