"""From a configuration to what models train on: events, catalogue, split, and histories as item indices."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from driftline.catalog.agreement import link_agreement
from driftline.catalog.graph import facts, read_graph
from driftline.catalog.items import Catalog, build_catalog, read_items
from driftline.catalog.vectors import read_item_vectors
from driftline.columns import Events, Items
from driftline.config import Config, DataConfig
from driftline.errors import DataError
from driftline.events.histories import Ingested, ingest_folder, open_ingested
from driftline.events.log import event_log
from driftline.events.readers import read_events
from driftline.events.sample import sample_events
from driftline.events.splits import (
    SPLITS,
    Split,
    Targets,
    leave_one_out,
    user_part,
    without_users,
)
from driftline.events.tables import Rejection
from driftline.samples import fetch_movielens
from driftline.sequences.batches import History
from driftline.sequences.event_types import type_numbers
from driftline.sequences.scale import scaled
from driftline.sequences.user_attributes import UserAttributes, learn_attributes, read_user_table

MAX_FACTS = 3
"""Knowledge-graph facts that are considered for one item's text."""


@dataclass(frozen=True)
class Files:
    """Where the input lies, whether sample or own."""

    interactions: Path
    items: Path | None
    graph: Path | None
    links: Path | None
    users: Path | None


def locate(config: DataConfig, storage: Path) -> Files:
    """Resolve the data section to files, fetching a named sample if it is not there yet."""
    if config.sample is None:
        assert config.interactions is not None
        return Files(config.interactions, config.items, config.graph, config.links, config.users)
    folder = fetch_movielens(storage)
    return Files(*(folder / f"ml-100k.{extension}" for extension in ("inter", "item", "kg", "link", "user")))


@dataclass(frozen=True)
class Dataset:
    """One log, split for one protocol.

    Attributes
    ----------
    events
        All events, ordered and without duplicates.
    split
        Training events (of everybody) and targets.
    fingerprint
        sha256 of what was read: bundles remember it.
    report
        Counts worth telling: rows read, rejected, duplicates, items without a catalogue row.
    rejected
        Malformed rows of the event and item files, with file, line and reason.
    ingested
        The whole log on disk, of which ``events`` are a sample of users (``data.ingest=ray-data``); None where
        ``events`` are all.
    item_vectors_NV
        Precomputed vectors of the catalogue's items (``data.item_vectors``), if there are any.
    user_attributes
        Values of the attributes that are read (``data.user_attributes``), as the training users have them.
    attributes_of
        ``numbers_A`` by user, for users that the table has.
    """

    events: pd.DataFrame
    catalog: Catalog
    split: Split
    fingerprint: str
    report: dict[str, int]
    rejected: Sequence[Rejection] = ()
    ingested: Ingested | None = None
    item_vectors_NV: NDArray[np.float32] | None = None
    user_attributes: UserAttributes = field(default_factory=UserAttributes)
    attributes_of: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @cached_property
    def users(self) -> list[str]:
        """All users, in order of first appearance in the ordered log."""
        return list(pd.unique(self.events[Events.USER]))

    @property
    def before_test(self) -> "Dataset":
        """The same log with everything before the test to train on; itself where validation events are no such."""
        if self.split.fit is self.split.train:
            return self
        return replace(self, split=replace(self.split, fit=self.split.train))

    def users_of(self, part: str) -> list[str]:
        """Users of a part of the drift protocol: train, calibration or test."""
        return [user for user in self.users if user_part(user) == part]

    def histories(self, events: pd.DataFrame, users: Sequence[str] | None = None) -> dict[str, History]:
        """Per user the ordered history as arrays; ``users`` restricts them."""
        if users is not None:
            events = events[events[Events.USER].isin(set(users))]
        items = self.indices(events[Events.ITEM])
        times = events[Events.TIME].to_numpy(dtype=np.float64)
        values, types = self._scaled_values(events), type_numbers(events[Events.TYPE])
        groups = events.groupby(Events.USER, sort=False).indices
        return {
            str(user): History(
                items[rows], times[rows], values[rows], str(user), types[rows], self.attributes_of.get(str(user))
            )
            for user, rows in groups.items()
        }

    def target_history(self, targets: Targets, number: int, with_moment: bool = False) -> History:
        """What is known before a target is ranked; its own moment only on demand."""
        user = str(targets.user_ids[number])
        return History(
            self.indices(targets.history(number)),
            targets.history_times(number),
            user=user,
            types=type_numbers(targets.history_types(number)),
            attributes=self.attributes_of.get(user),
            now_s=float(targets.times[number]) if with_moment else None,
        )

    def indices(self, item_ids: Iterable[str]) -> NDArray[np.int64]:
        """External item ids as catalogue indices; every id of the log is in the catalogue."""
        return np.fromiter((self.catalog.index[item] for item in item_ids), dtype=np.int64)

    @cached_property
    def value_range(self) -> tuple[float, float]:
        """Lowest and highest explicit value of the log; NaN where there is none."""
        known = self.events[Events.VALUE]
        return (known.min(), known.max()) if self.ingested is None else self.ingested.value_range

    def _scaled_values(self, events: pd.DataFrame) -> NDArray[np.float32]:
        return scaled(events[Events.VALUE].to_numpy(dtype=np.float64), *self.value_range)


def load_dataset(config: Config) -> Dataset:
    """Read, clean, order and split the data of a configuration.

    With ``data.ingest=ray-data`` the log must have been ingested (:func:`ingest_dataset`); what is loaded is a sample
    of ``data.sample_users`` users, the same in every process.

    Raises
    ------
    DataError
        If too many rows are malformed, the protocol leaves nothing to train on, or the log is not ingested yet.
    """
    files = locate(config.data, config.storage)
    if config.data.ingest == "ray-data":
        return _sampled(config, files)
    read = read_events(files.interactions, columns=config.data.columns or None)
    total = len(read.events) + len(read.rejected)
    if len(read.rejected) > config.data.max_rejected_fraction * total:
        first = "; ".join(f"{r.file}:{r.line}: {r.reason}" for r in read.rejected[:3])
        raise DataError(
            f"{len(read.rejected)} of {total} rows of {files.interactions} are malformed, more than "
            f"data.max_rejected_fraction={config.data.max_rejected_fraction} allows. The first: {first}"
        )
    log = event_log(read.events)
    catalog, rejected_items = _catalog(config, files, log.events[Events.ITEM])
    split = SPLITS[config.protocol](log.events)
    report = {
        "rows": total,
        "rejected": len(read.rejected),
        "duplicates": log.duplicate_ids + log.duplicate_rows,
        "events": len(log.events),
        "users": int(log.events[Events.USER].nunique()),
        "items": len(catalog.ids),
        "rejected items": len(rejected_items),
        "items without a catalogue row": len(catalog.unlisted),
    }
    vectors = _item_vectors(config, catalog)
    users, rejected_users = _users(config, files)
    if config.data.user_attributes:
        report["rejected users"] = len(rejected_users)
    fingerprint = _fingerprint(log.events, catalog, vectors, config.encoder.event_types, users)
    rejected = [*read.rejected, *rejected_items, *rejected_users]
    dataset = Dataset(log.events, catalog, split, fingerprint, report, rejected, item_vectors_NV=vectors)
    return _with_attributes(dataset, config, files, users) if config.data.user_attributes else dataset


def ingest_dataset(config: Config, console: Console) -> Ingested:
    """Write the histories of a log that fits in no memory, unless they are there. Needs a running Ray.

    Raises
    ------
    DataError
        If the log cannot be read, or too many rows are malformed.
    """
    from driftline.events.ingest import ingest

    files = locate(config.data, config.storage)
    data = config.data
    return ingest(files.interactions, data.columns, config.storage, data.max_rejected_fraction, console)


def _sampled(config: Config, files: Files) -> Dataset:
    """The catalogue of an ingested log, and the histories of some of its users."""
    folder = ingest_folder(files.interactions, config.data.columns, config.storage)
    if not folder.is_dir():
        raise DataError(
            f"{files.interactions} is not ingested yet: a training job does it, or python jobs/ingest.py --config FILE"
        )
    ingested = open_ingested(folder)
    catalog, rejected_items = _catalog(config, files, ingested.items()[Items.ITEM])
    events = sample_events(ingested, config.data.sample_users, config.seed)
    report = ingested.report | {
        "items": len(catalog.ids),
        "rejected items": len(rejected_items),
        "items without a catalogue row": len(catalog.unlisted),
        "sampled users": int(events[Events.USER].nunique()),
    }
    vectors = _item_vectors(config, catalog)
    fingerprint = _digest(ingested.fingerprint.encode(), catalog, vectors)
    rejected = [*ingested.rejected, *rejected_items]
    return Dataset(events, catalog, leave_one_out(events), fingerprint, report, rejected, ingested, vectors)


def ranking_split(dataset: Dataset, config: Config) -> Split:
    """What the ranker may learn from (``fit``) and be tuned on (``validation``).

    Where the configuration excludes held-out users, neither an event nor a target of theirs is in it.
    """
    if config.ranking.exclude_held_out:
        return without_users(dataset.split, dataset.users_of("test"))
    return dataset.split


def _catalog(config: Config, files: Files, event_items: Iterable[str]) -> tuple[Catalog, Sequence[Rejection]]:
    """The catalogue and the malformed item rows."""
    items, rejected = pd.DataFrame({Items.ITEM: []}, dtype=str), list[Rejection]()
    if files.items:
        table = read_items(files.items)
        items, rejected = table.items, table.rejected
    max_chars = config.text.max_facts_chars
    catalog = build_catalog(
        items,
        _facts(files, items) if max_chars else None,
        config.data.repeat_consumption,
        event_items=event_items,
        max_facts_chars=max_chars,
    )
    return catalog, rejected


def _facts(files: Files, items: pd.DataFrame) -> dict[str, str]:
    """Facts of the knowledge graph as text, once it is clear that its links mean these items.

    Raises
    ------
    DataError
        If there is no graph or no title, or the links are no better than chance at pairing items of like categories.
    """
    if not (files.graph and files.links and Items.TITLE in items):
        raise DataError("text.max_facts_chars > 0 needs data.graph, data.links and an item table with titles")
    graph = read_graph(files.graph, files.links)
    agreement = link_agreement(graph, items)
    if not agreement.fits:
        raise DataError(
            f"the knowledge graph's links do not belong to this catalogue: {agreement}. Facts from it would be false: "
            "mend the link file, or set text.max_facts_chars=0"
        )
    return facts(graph, dict(zip(items[Items.ITEM], items[Items.TITLE], strict=True)), max_facts=MAX_FACTS)


def _item_vectors(config: Config, catalog: Catalog) -> NDArray[np.float32] | None:
    path = config.data.item_vectors
    return None if path is None else read_item_vectors(path, catalog.index)


def _users(config: Config, files: Files) -> tuple[dict[str, dict[str, str]], Sequence[Rejection]]:
    """Attributes by user, where they are read, and the malformed rows."""
    names = config.data.user_attributes
    if not names:
        return {}, []
    assert files.users is not None
    return read_user_table(files.users, names)


def _with_attributes(dataset: Dataset, config: Config, files: Files, users: Mapping[str, Mapping[str, str]]) -> Dataset:
    """The data set with users' attributes, of which only those of the ranker's training users have numbers."""
    assert files.users is not None
    trained = pd.unique(ranking_split(dataset, config).fit[Events.USER]).tolist()
    found = learn_attributes(files.users, config.data.user_attributes, users, trained)
    numbers = {user: found.numbers(given) for user, given in users.items()}
    return replace(dataset, user_attributes=found, attributes_of=numbers)


def _fingerprint(
    events: pd.DataFrame,
    catalog: Catalog,
    vectors: NDArray[np.float32] | None,
    with_types: bool,
    users: Mapping[str, Mapping[str, str]],
) -> str:
    """Types and users' attributes count where they are read: bundles of before compare with those of today."""
    columns = [Events.USER, Events.ITEM, Events.TIME, Events.VALUE, *([Events.TYPE] if with_types else [])]
    described = json.dumps(users, sort_keys=True).encode() if users else b""
    hashed = pd.util.hash_pandas_object(events[columns], index=False).to_numpy().tobytes()
    return _digest(hashed + described, catalog, vectors)


def _digest(events: bytes, catalog: Catalog, vectors: NDArray[np.float32] | None) -> str:
    texts = "\0".join(catalog.texts).encode("utf-8", "surrogatepass")
    return sha256(events + texts + (b"" if vectors is None else vectors.tobytes())).hexdigest()
