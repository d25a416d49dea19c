"""What a call can end with instead of an answer.

ClientError
├── NoAnswerError            no answer: nobody listens, the connection broke, or time ran out
└── ApiError                 an answer that says what is wrong
    ├── UnauthenticatedError 401   no valid key
    ├── ForbiddenError       403   the key lacks a scope
    ├── NotFoundError        404
    ├── ConflictError        409   a version that the service never acknowledged
    ├── TooLargeError        413
    ├── InvalidRequestError  400, 415, 422   ``errors`` names each fault
    ├── RateLimitedError     429   after retries
    └── ServerError          5xx   after retries; the proxy's own, which are plain text, too
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx


class ClientError(Exception):
    """Base of all errors of the client.

    Parameters
    ----------
    attempts
        How often the request was sent.
    """

    def __init__(self, message: str, attempts: int) -> None:
        super().__init__(message if attempts == 1 else f"{message} (after {attempts} attempts)")
        self.attempts = attempts


class NoAnswerError(ClientError):
    """Nobody answered. Whether the request had an effect is not known; to repeat it is harmless."""


@dataclass(frozen=True)
class Problem:
    """Body of an error (RFC 9457).

    Parameters
    ----------
    errors
        On 422: detail and JSON pointer of each fault.
    """

    status: int
    title: str
    detail: str
    request_id: str | None
    errors: Sequence[dict[str, Any]] = ()


class ApiError(ClientError):
    """The service answered with an error."""

    def __init__(self, problem: Problem, attempts: int) -> None:
        faults = "".join(
            f"; {fault.get('pointer') or fault.get('parameter', '')}: {fault.get('detail')}" for fault in problem.errors
        )
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}{faults}", attempts)
        self.problem = problem
        self.status = problem.status
        self.errors = problem.errors
        self.request_id = problem.request_id


class UnauthenticatedError(ApiError):
    """The key is unknown, wrong, expired or revoked."""


class ForbiddenError(ApiError):
    """The key lacks the scope."""


class NotFoundError(ApiError):
    """There is no such user, item, list or route."""


class ConflictError(ApiError):
    """The request contradicts the state of the service."""


class TooLargeError(ApiError):
    """The body is larger than the service takes."""


class InvalidRequestError(ApiError):
    """The request makes no sense to the service."""


class RateLimitedError(ApiError):
    """The key has used up its rate, and its retries."""


class ServerError(ApiError):
    """The service or the proxy in front of it failed, and failed again."""


_KINDS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitedError,
}


def error_of(response: httpx.Response, attempts: int) -> ApiError:
    """The error that a response is."""
    problem = _problem(response)
    kind = ServerError if problem.status >= 500 else _KINDS.get(problem.status, ApiError)
    return kind(problem, attempts)


def _problem(response: httpx.Response) -> Problem:
    request_id = response.headers.get("x-request-id")
    if response.headers.get("content-type", "").partition(";")[0] == "application/problem+json":
        body = response.json()
        return Problem(
            status=response.status_code,
            title=str(body.get("title", "")),
            detail=str(body.get("detail", "")),
            request_id=body.get("request_id", request_id),
            errors=body.get("errors") or (),
        )
    return Problem(response.status_code, response.reason_phrase, response.text[:500], request_id)
