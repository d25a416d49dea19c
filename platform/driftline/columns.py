"""Every table column of Driftline, named once.

Tables are plain ``pandas.DataFrame``; these constants are the only place where a column is spelled.
"""

from typing import Final


class Events:
    """Columns of an event table: one row per (user, item, moment)."""

    USER: Final = "user_id"
    """str: external user id."""
    ITEM: Final = "item_id"
    """str: external item id."""
    TIME: Final = "timestamp"
    """float64: seconds since the epoch; NaN means 'unknown'."""
    TYPE: Final = "type"
    """str: view, click, cart, purchase, listen, read, rating, review."""
    VALUE: Final = "value"
    """float64: rating or weight; NaN when the event carries none."""
    TEXT: Final = "text"
    """str or None: review or query text."""
    EVENT_ID: Final = "event_id"
    """str or None: the producer's id; identity of an event where it is given."""
    POSITION: Final = "position"
    """int64: position in the input, the last tie-break of every ordering."""


class Histories:
    """Columns of ingested histories (``events.histories``): one row per user, events in order."""

    USER: Final = "user_id"
    """str: external user id."""
    ITEMS: Final = "items"
    """list of int64: training events as rows of the ingested item list."""
    TIMES: Final = "times"
    """list of float64: seconds since the epoch; NaN means 'unknown'."""
    VALUES: Final = "values"
    """list of float64: as in the log; NaN where there is none."""
    TARGET_ITEMS: Final = "target_items"
    """list of int64: the validation and the test event; empty where the user has neither."""
    TARGET_TIMES: Final = "target_times"
    TARGET_VALUES: Final = "target_values"


class Items:
    """Columns of a catalogue table: one row per item."""

    ITEM: Final = "item_id"
    """str: external item id."""
    TITLE: Final = "title"
    YEAR: Final = "year"
    """str: release year, empty when unknown."""
    CATEGORIES: Final = "categories"
    """str: space-separated category names (genres)."""
    DESCRIPTION: Final = "description"
    FACTS: Final = "facts"
    """str: knowledge-graph facts rendered as text, most specific first."""
    TEXT: Final = "text"
    """str: what the text tower reads, composed by ``catalog.text``."""


class Targets:
    """Columns of an evaluation dump: one row per ranked target (specs: ranking protocol, Outputs)."""

    PROTOCOL: Final = "protocol"
    USER: Final = "user_id"
    ITEM: Final = "item_id"
    HISTORY_LENGTH: Final = "history_length"
    RANK: Final = "rank"
    """float64: 1 + #better + (#equal - 1) / 2."""
    VALUE: Final = "value"
    """float64: the target's explicit value (protocol ``rating``, which has no ranks)."""
    PREDICTED: Final = "predicted"
    """float64: what the model predicted it to be."""
    MODEL: Final = "model"
    SEED: Final = "seed"
