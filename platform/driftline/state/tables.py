"""Tables of the event store, as the newest migration leaves them (see ``migrations``).

Every table is keyed by tenant first. ``versions`` holds one counter per tenant that each acknowledged write advances;
rows remember the version that wrote them, so a follower asks for 'everything after version v'.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

metadata = MetaData()
_Sequence = BigInteger().with_variant(Integer, "sqlite")

versions = Table(
    "versions",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("catalogue_version", BigInteger, nullable=False),
    Column("erased_version", BigInteger, nullable=False, server_default="0"),  # version of the last erasure of a user
)

events = Table(
    "events",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),  # order of arrival
    Column("tenant", String(64), nullable=False),
    Column("event_id", String(256), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("item_id", String(256), nullable=False),
    Column("type", String(32), nullable=False),
    Column("timestamp", Float(53), nullable=False),  # seconds since the epoch
    Column("value", Float(53)),
    Column("text", Text),
    Column("request_id", String(128)),
    Column("version", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("tenant", "event_id", name="one_event_per_id"),
    Index("events_of_user", "tenant", "user_id", "timestamp", "seq"),
    sqlite_autoincrement=True,  # a number is never given twice, even after an erasure
)

users = Table(
    "users",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("user_id", String(256), primary_key=True),
    Column("since", BigInteger, nullable=False),  # version of the first write, or of the first after an erasure
    Column("revision", BigInteger, nullable=False),  # version of the last write to this user's history
    Column("num_events", BigInteger, nullable=False, server_default="0"),
    Column("claimed_until", Float(53), nullable=False, server_default="0"),  # some replica works out the drift state
)

drift_states = Table(
    "drift_states",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("user_id", String(256), primary_key=True),
    Column("revision", BigInteger, nullable=False),  # the history it was worked out from
    Column("bundle", String(256), nullable=False),  # the model it was worked out with
    Column("change_event_id", String(256)),  # first event of the new regime
    Column("report", Text, nullable=False),  # JSON, see records.StoredDrift
    Column("state", LargeBinary),  # what the next event is scored from; empty: from the window
)

items = Table(
    "items",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("item_id", String(256), primary_key=True),
    Column("title", Text, nullable=False),
    Column("year", String(16), nullable=False),
    Column("categories", Text, nullable=False),  # JSON array of names
    Column("description", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("available", Boolean, nullable=False, server_default=true()),
    Column("version", BigInteger, nullable=False),
    Index("items_by_version", "tenant", "version"),
)

served = Table(
    "served",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("items", Text, nullable=False),  # JSON array of item ids, best first
    Column("policy", String(32), nullable=False),
    Column("bundle", String(256), nullable=False),
    Column("served_at", Float(53), nullable=False),
    Column("version", BigInteger, nullable=False, server_default="0"),  # the store's, that the list was made from
    Column("arm", Text, nullable=False, server_default="champion"),
    Column("scores", Text),  # JSON array, one number per item
    Column("shadow", Text),  # JSON: what another bundle would have shown
    Column("reading", Text),  # JSON: how the history was read, where an explanation was asked for
    Index("served_to_user", "tenant", "user_id"),
    Index("served_by_request", "tenant", "request_id"),
)

promotions = Table(
    "promotions",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("configured", Text, nullable=False),  # champion of the configuration that the promotion was made over
    Column("mode", String(16), nullable=False),
    Column("arms", Text, nullable=False),  # serving.arms.Arms as JSON
    Column("previous", BigInteger),  # what a rollback returns to: a promotion; 0: the configuration; empty: nothing
    Column("promoted_at", Float(53), nullable=False),
    Column("key_id", String(32), nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", String(64), nullable=False),  # space-separated
    Column("created_at", Float(53), nullable=False),
    Column("revoked_at", Float(53)),
    Column("expires_at", Float(53)),  # from then on the key is closed; set by a rotation
    Column("rate", Float(53)),  # requests per second; empty: the service's default
    Column("burst", Integer),  # requests at once; given if and only if rate is
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # signing needs it as it is
    Column("updated_at", Float(53), nullable=False),
)

webhook_outbox = Table(
    "webhook_outbox",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("event_id", String(64), nullable=False),  # for the receiver to tell a repetition
    Column("user_id", String(256)),  # whom it is about, if anybody: an erasure takes it along
    Column("body", Text, nullable=False),  # JSON, as it is signed and sent
    Column("created_at", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float(53), nullable=False),  # not to be sent before; moved on while somebody sends it
    Column("fault", Text),  # why the last attempt failed
    UniqueConstraint("event_id", name="one_message_per_id"),
    Index("outbox_by_time", "next_at"),
    Index("outbox_of_user", "tenant", "user_id"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("actor", String(32), nullable=False),  # key id, or cli
    Column("action", String(32), nullable=False),
    Column("subject", String(256), nullable=False),  # of users and items a keyed hash, never their ids
    Column("outcome", String(16), nullable=False),
    Index("audit_of_tenant", "tenant", "seq"),
)

audit_secret = Table(
    "audit_secret",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1: there is one
    Column("secret", String(64), nullable=False),  # key of the hashes in audit.subject
)
