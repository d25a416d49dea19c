"""Sending what the outbox holds to the tenants' receivers: signed, again until it is taken, and nowhere it must not go.

A receiver verifies ``Driftline-Signature: t=<seconds>,v1=<hex>``, where v1 is HMAC-SHA-256 of ``<t>.<body>`` under the
secret (``driftline.client.verify_webhook`` does), and tells repetitions by ``Driftline-Event-Id``.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from driftline.errors import DriftlineError
from driftline.serving import telemetry
from driftline.state.outbox import Delivery

logger = logging.getLogger("ray.serve")

POLL_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 60.0
"""Longer than an attempt can take."""
ATTEMPT_SECONDS: Final = 10.0
SENT_AT_ONCE: Final = 16
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 3600.0
MAX_ATTEMPTS: Final = 16
"""Over about five hours; then the message is dropped, counted and logged."""


class WebhookUrlError(DriftlineError, ValueError):
    """A URL that nothing is sent to."""


def signature(secret: str, body: bytes, seconds: int) -> str:
    """Value of ``Driftline-Signature`` for a body sent at a time (seconds since the epoch)."""
    digest = hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def check_url(text: str, internal: bool) -> httpx.URL:
    """The URL, if something may be sent there as far as one can tell without resolving its host.

    Parameters
    ----------
    internal
        Whether receivers inside the operator's network are allowed, and plain http to this machine.

    Raises
    ------
    WebhookUrlError
        Naming the fault.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise WebhookUrlError(f"not a URL: {error}") from error
    if url.userinfo:
        raise WebhookUrlError("must not hold a user name or a password: messages are signed instead")
    if not url.host:
        raise WebhookUrlError("names no host: write https://host/path")
    plain = internal and url.scheme == "http" and url.host in ("127.0.0.1", "::1", "localhost")
    if url.scheme != "https" and not plain:
        raise WebhookUrlError(f"scheme {url.scheme!r}: only https is sent to")
    try:
        addresses = [ipaddress.ip_address(url.host)]
    except ValueError:  # a name
        addresses = []
    if not internal and (url.host == "localhost" or not all(map(_public, addresses))):
        raise WebhookUrlError("names an address that is not public")
    return url


async def pinned(url: httpx.URL, internal: bool) -> tuple[httpx.URL, dict[str, str]]:
    """The URL with an address in the place of its host, and the host, for ``Host`` and TLS.

    What was checked is what is connected to: between the two, a name cannot be made to mean another address.

    Raises
    ------
    WebhookUrlError
        If the name has no address, or any that is not public.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise WebhookUrlError(f"host cannot be resolved: {error}") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not internal and not all(map(_public, addresses)):
        raise WebhookUrlError("host has an address that is not public")
    return url.copy_with(host=str(addresses[0])), {"Host": url.netloc.decode(), "sni_hostname": url.host}


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None,))[0]
        nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        if nat64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _public(inner)
    return address.is_global and not address.is_multicast


class Deliveries:
    """The sender: one task of UserState.

    Parameters
    ----------
    claim, remove, postpone
        The outbox; see :mod:`driftline.state.outbox`.
    internal
        See :func:`check_url`.
    """

    def __init__(
        self,
        claim: Callable[[], Awaitable[list[Delivery]]],
        remove: Callable[[list[int]], Awaitable[None]],
        postpone: Callable[[Delivery, float, str], Awaitable[None]],
        internal: bool,
    ) -> None:
        self._claim, self._remove, self._postpone = claim, remove, postpone
        self._internal = internal
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look at once: something was queued."""
        self._news.set()

    async def run(self) -> None:
        """Send for ever."""
        limits = httpx.Timeout(ATTEMPT_SECONDS)
        async with httpx.AsyncClient(timeout=limits, follow_redirects=False, trust_env=False) as http:
            while True:
                self._news.clear()
                try:
                    due = await self._claim()
                    await asyncio.gather(*(self._deliver(http, delivery) for delivery in due))
                except Exception:
                    logger.exception("the outbox of webhooks could not be worked on; it is tried again")
                    due = []
                if not due:
                    await self._rest()

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), POLL_SECONDS)
        except TimeoutError:
            return

    async def _deliver(self, http: httpx.AsyncClient, delivery: Delivery) -> None:
        fault = await self._attempt(http, delivery)
        if fault is None:
            telemetry.count_webhook("delivered")
            await self._remove([delivery.seq])
        elif delivery.attempts + 1 >= MAX_ATTEMPTS:
            telemetry.count_webhook("dropped")
            logger.error("a webhook message was dropped", extra={"tenant": delivery.tenant, "fault": fault})
            await self._remove([delivery.seq])
        else:
            telemetry.count_webhook("failed")
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**delivery.attempts)
            await self._postpone(delivery, longest * random.uniform(0.5, 1.0), fault)

    async def _attempt(self, http: httpx.AsyncClient, delivery: Delivery) -> str | None:
        """Send once; returns what went wrong. The answer's body is not read."""
        body = delivery.body.encode()
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                url, host = await pinned(check_url(delivery.url, self._internal), self._internal)
                headers = {
                    "Host": host["Host"],
                    "Content-Type": "application/json",
                    "User-Agent": "driftline-webhook",
                    "Driftline-Event-Id": delivery.event_id,
                    "Driftline-Signature": signature(delivery.secret, body, int(time.time())),
                }
                extensions = {"sni_hostname": host["sni_hostname"]}
                async with http.stream("POST", url, content=body, headers=headers, extensions=extensions) as response:
                    return None if response.is_success else f"status {response.status_code}"
        except (WebhookUrlError, httpx.HTTPError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
