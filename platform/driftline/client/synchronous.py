"""The synchronous client."""

import functools
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar, overload

import httpx

from driftline.client import calls
from driftline.client.calls import Call
from driftline.client.errors import NoAnswerError
from driftline.client.exchange import Exchange, connection
from driftline.client.messages import Event, EventsOutcome
from driftline.client.retries import Attempts, RetryPolicy

P = ParamSpec("P")
T = TypeVar("T")


class _Method(Generic[P, T]):
    """A method of the client that makes a call and sends it."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> "_Method[P, T]": ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    def __get__(self, client: "Client | None", owner: type) -> "_Method[P, T] | Callable[P, T]":
        if client is None:
            return self
        send = client.send

        @functools.wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return send(self._make(*args, **kwargs))

        return method


class Client:
    """Client of a Driftline service; may be used from several threads. A context manager.

    Parameters
    ----------
    url
        Where the service listens, such as ``http://127.0.0.1:8000``.
    key
        API key.
    retries
        What is sent again.
    read_your_writes
        Lists are made from a state that holds everything this client has written (``min_version``).
    """

    def __init__(
        self, url: str, key: str, *, retries: RetryPolicy | None = None, read_your_writes: bool = True
    ) -> None:
        self._retries = retries or RetryPolicy()
        self._exchange = Exchange(read_your_writes)
        self._http = httpx.Client(**connection(url, key))
        self.events = Events(self)

    recommend = _Method(calls.recommend)
    rank = _Method(calls.rank)
    similar = _Method(calls.similar)
    search = _Method(calls.search)
    rerank = _Method(calls.rerank)
    drift = _Method(calls.drift)
    put_item = _Method(calls.put_item)
    put_items = _Method(calls.put_items)
    get_item = _Method(calls.get_item)
    delete_item = _Method(calls.delete_item)
    get_user = _Method(calls.get_user)
    get_timeline = _Method(calls.get_timeline)
    delete_user = _Method(calls.delete_user)
    put_webhook = _Method(calls.put_webhook)
    get_webhook = _Method(calls.get_webhook)
    delete_webhook = _Method(calls.delete_webhook)

    @property
    def version(self) -> int:
        """The newest version that was acknowledged to this client."""
        return self._exchange.version

    def send(self, call: Call[T]) -> T:
        """Send a call, again if need be, and read the answer.

        Raises
        ------
        NoAnswerError
            If nobody answered in time.
        ApiError
            If the answer is an error.
        """
        request = self._exchange.request(call)
        attempts = Attempts(self._retries)
        while True:
            response: httpx.Response | None = None
            try:
                response = self._http.request(**request, timeout=attempts.begin())
                pause = None if response.is_success else attempts.pause(response)
            except httpx.TransportError as error:
                pause = attempts.pause()
                if pause is None:
                    raise NoAnswerError(f"{call.method} {call.path}: {error!r}", attempts.made) from error
            if pause is None:
                assert response is not None
                return self._exchange.answer(call, response, attempts.made)
            time.sleep(pause)

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Events:
    """Events of the client's tenant.

    Parameters
    ----------
    client
        Who sends them.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def add(self, events: Iterable[Event]) -> EventsOutcome:
        """Send any number of events in batches; returns when all are acknowledged.

        If a batch fails for good its error is raised; those before it are acknowledged, and to add the same
        :class:`Event` objects again is harmless.
        """
        outcome = EventsOutcome(accepted=0, duplicate=0, rejected=0, version=self._client.version, events=[])
        for call in calls.event_batches(events):
            outcome += self._client.send(call)
        return outcome
