"""A scripted visit: users that nothing in the bundle has seen come to the running service, and some of them change.

Every visit posts real events through HTTP. In a changing visit the events of another user, of far taste and at the same
life position, follow under the same id; in a control visit the user's own later events do.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from driftline.drift.streams import Recipe, Stream, Track, draw_streams, taste_distance
from driftline.errors import DriftlineError
from driftline.registry.model import Model
from driftline.sequences.dataset import Dataset

SETTLE_TIMEOUT_S = 60.0
POLL_S = 0.1


class VisitError(DriftlineError, RuntimeError):
    """The service did not answer as a visit needs it."""


@dataclass(frozen=True)
class Moment:
    """What the service says of a user at one time."""

    events: int
    p_drift: float
    change_point: int | None
    policy: str
    reason: str
    titles: list[str]


@dataclass(frozen=True)
class Visit:
    """One user's visit, before and after the (possible) change."""

    stream: Stream
    before: Moment
    after: Moment
    course: list[tuple[int, float]] = field(default_factory=list)
    """(events so far, P(drift)) after every post."""


def held_out_streams(model: Model, dataset: Dataset, pairs: int, seed: int) -> list[Stream]:
    """Pairs of a changing and a control stream of held-out users; B has a far taste.

    In the order that the bundle's drift part is set to (``drift.event_order``): shuffled, or as it happened.
    """
    histories = dataset.histories(dataset.events, model.held_out_users)
    track: Track = "X" if model.config.drift.event_order == "shuffled" else "N"
    return draw_streams(histories, taste_distance(dataset), Recipe(track), pairs, seed, severities=("far",))


class Visitor:
    """Plays streams against a service.

    Parameters
    ----------
    client
        With base URL and authorization.
    item_ids
        External ids by catalogue index.
    chunk
        Events per post.
    """

    def __init__(self, client: httpx.Client, item_ids: list[str], chunk: int = 5) -> None:
        self._client, self._item_ids, self._chunk = client, item_ids, chunk

    def play(self, stream: Stream, user_id: str, hear: Callable[[int, float], None] = lambda events, p: None) -> Visit:
        """Post the stream under one user id, asking for a list before the change and at the end."""
        course: list[tuple[int, float]] = []
        moments: list[Moment] = []
        for start, stop in self._chunks(stream):
            version = self._post(stream, user_id, start, stop)
            moment = self._settled(user_id, stop, version)
            course.append((stop, moment.p_drift))
            hear(stop, moment.p_drift)
            if stop in (stream.change_point, len(stream.items)):
                moments.append(moment)
        return Visit(stream, moments[0], moments[-1], course)

    def _chunks(self, stream: Stream) -> Iterator[tuple[int, int]]:
        """Everything before the change at once, then a few events at a time."""
        yield 0, stream.change_point
        for start in range(stream.change_point, len(stream.items), self._chunk):
            yield start, min(start + self._chunk, len(stream.items))

    def _post(self, stream: Stream, user_id: str, start: int, stop: int) -> int:
        """Post events ``start`` to ``stop``; returns the version that was acknowledged."""
        began_s = 1_700_000_000
        events = [
            {
                "event_id": f"{stream.stream_id}-{number}",
                "user_id": user_id,
                "item_id": self._item_ids[stream.items[number]],
                "type": "rating",
                "timestamp": began_s + 60 * number,
            }
            for number in range(start, stop)
        ]
        answer = self._checked(self._client.post("/v1/events", json=events))
        if answer["accepted"] != len(events):
            raise VisitError(f"{len(events)} events were posted, {answer['accepted']} accepted: {answer['events'][:3]}")
        return int(answer["version"])

    def _settled(self, user_id: str, events: int, version: int) -> Moment:
        """Ask for a list until the drift state covers all events; it follows them off the request path."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while time.monotonic() < deadline:
            body = {"user_id": user_id, "k": 10, "min_version": version}
            answer = self._checked(self._client.post("/v1/recommend", json=body))
            if answer["drift"]["status"] == "current":
                return Moment(
                    events,
                    float(answer["drift"]["p_drift"]),
                    answer["drift"]["change_point"],
                    answer["policy"]["name"],
                    answer["policy"]["reason"],
                    [item["title"] for item in answer["items"]],
                )
            time.sleep(POLL_S)
        raise VisitError(
            f"the drift state of {user_id} did not catch up with {events} events in {SETTLE_TIMEOUT_S:.0f} s"
        )

    def _checked(self, response: httpx.Response) -> Any:
        if response.status_code != 200:
            raise VisitError(
                f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}"
            )
        return response.json()
