"""Errors of the HTTP API as ``application/problem+json`` (RFC 9457), and which exception becomes which status."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from driftline.errors import DatabaseError
from driftline.serving.calls import VersionAheadError
from driftline.serving.promotions import PromotionError
from driftline.serving.webhooks import WebhookUrlError

TITLES = {
    400: "Malformed request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Body not received in time",
    409: "Conflict",
    413: "Body too large",
    414: "Path too long",
    415: "Unsupported media type",
    422: "Invalid request",
    429: "Rate limit exceeded",
    431: "Headers too large",
    500: "Internal error",
    501: "Not available",
    503: "Overloaded or not ready",
    504: "Timed out",
}


class Problem(Exception):
    """An error with an HTTP status.

    Parameters
    ----------
    status
        HTTP status code.
    detail
        One sentence for the caller: field, value, way out.
    errors
        On 422: ``{"detail": ..., "pointer": ...}`` for each fault.
    headers
        Extra response headers.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    def response(self, instance: str, request_id: str) -> JSONResponse:
        """Render the problem; ``instance`` is the path of the request."""
        title = TITLES.get(self.status, "Error")
        body: dict[str, Any] = {
            "type": f"urn:driftline:problem:{title.lower().replace(' ', '-')}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
        }
        if self.errors is not None:
            body["errors"] = list(self.errors)
        return JSONResponse(body, self.status, headers=self.headers, media_type="application/problem+json")


def overloaded(detail: str) -> Problem:
    """503 with the time after which a retry makes sense."""
    return Problem(503, detail, headers={"Retry-After": "1"})


def json_pointer(location: Sequence[str | int]) -> str:
    """RFC 6901 pointer of a place in a body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def validation_problem(faults: Sequence[Any]) -> Problem:
    """422, or 400 if the body is not JSON at all, from pydantic's list of faults."""
    errors: list[dict[str, Any]] = []
    for fault in faults:
        where, *location = fault["loc"] or ("body",)
        message = str(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] == "json_invalid":
            return Problem(400, f"the body is not JSON: {fault.get('ctx', {}).get('error', message)}")
        if where == "body":
            errors.append({"detail": message, "pointer": json_pointer(location)})
        else:
            errors.append({"detail": message, "pointer": "", "parameter": str(location[-1]), "in": where})
    noun = "fault" if len(errors) == 1 else "faults"
    return Problem(422, f"{len(errors)} {noun} in the request; see errors", errors=errors)


def as_problem(error: BaseException) -> Problem | None:
    """Problem of an exception that is expected to happen; ``None`` for a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return validation_problem(error.errors())
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, VersionAheadError | PromotionError):
        return Problem(409, str(error))
    if isinstance(error, WebhookUrlError):
        return Problem(422, "1 fault in the request; see errors", errors=[{"detail": str(error), "pointer": "/url"}])
    if isinstance(error, DatabaseError):
        return overloaded("the database cannot be reached, is locked, or is full: try again")
    if isinstance(error, TimeoutError):
        return Problem(504, "the deployment that does this work did not answer in time: try again")
    if isinstance(error, BackPressureError):
        return overloaded("every replica is busy and its queue is full: try again")
    if isinstance(error, (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)):
        return overloaded("the deployment that does this work is starting or restarting: try again")
    return None


def install(app: FastAPI) -> None:
    """Let the application answer framework errors as problems. Everything else is the envelope's to catch."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        problem = as_problem(error)
        assert problem is not None
        return problem.response(request.url.path, request.state.request_id)

    for kind in (Problem, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
