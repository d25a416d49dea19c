"""Client of the Driftline HTTP API. It stands alone: of this package it needs nothing, else httpx and pydantic.

    from driftline.client import Client, Event

    with Client("http://127.0.0.1:8000", key) as client:
        client.events.add([Event(user_id="ada", item_id="7", type="view")])
        for item in client.recommend("ada", k=5).items:
            print(item.title)

:class:`AsyncClient` has the same methods, to be awaited. Both retry what can be retried (see :class:`RetryPolicy`) and
read their own writes: a list is never made from an older state than the client's last acknowledged write.
"""

from driftline.client.asynchronous import AsyncClient
from driftline.client.errors import (
    ApiError,
    ClientError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NoAnswerError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    TooLargeError,
    UnauthenticatedError,
)
from driftline.client.messages import (
    Drift,
    DriftVerdict,
    Event,
    EventsOutcome,
    EventStatus,
    Filters,
    FoundItem,
    FoundList,
    Item,
    Policy,
    RankedItem,
    RankedList,
    RerankResult,
    StoredItem,
    Timeline,
    TimelineEvent,
    User,
    Webhook,
    Written,
    new_event_id,
)
from driftline.client.retries import RetryPolicy
from driftline.client.synchronous import Client
from driftline.client.webhooks import verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "ConflictError",
    "Drift",
    "DriftVerdict",
    "Event",
    "EventStatus",
    "EventsOutcome",
    "Filters",
    "ForbiddenError",
    "FoundItem",
    "FoundList",
    "InvalidRequestError",
    "Item",
    "NoAnswerError",
    "NotFoundError",
    "Policy",
    "RankedItem",
    "RankedList",
    "RateLimitedError",
    "RerankResult",
    "RetryPolicy",
    "ServerError",
    "StoredItem",
    "Timeline",
    "TimelineEvent",
    "TooLargeError",
    "UnauthenticatedError",
    "User",
    "Webhook",
    "Written",
    "new_event_id",
    "verify_webhook",
]
