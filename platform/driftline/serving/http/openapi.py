"""The OpenAPI document: what FastAPI derives from the routes, and what it cannot know.

That is the answers that every route can give (the envelope's errors, the headers of every response) and the groups.
A route contributes its docstring, the schema and examples of its body, and its scope.
"""

import inspect
from types import ModuleType
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from driftline.serving.http.messages.base import ProblemOut
from driftline.serving.http.problems import TITLES

DESCRIPTION: Final = """Recommendations that notice when a user's interests change.

JSON in, JSON out; errors are `application/problem+json` (RFC 9457). Everything but `/livez` and `/readyz` needs
`Authorization: Bearer <key>`; a key belongs to one tenant and has scopes. Every response carries `X-Request-ID`, echoed
if given, and `traceresponse` (W3C Trace Context). An error that is born in the proxy in front, before this service, may
be plain text: treat it as retryable.
"""

_PROBE_ERRORS: Final = (400, 408, 413, 414, 415, 431, 500, 503, 504)
_ERRORS: Final = tuple(sorted({*_PROBE_ERRORS, 401, 403, 404, 409, 422, 429, 501}))
_HEADERS: Final[dict[str, Any]] = {
    "X-Request-ID": {"description": "Of this request, echoed if given.", "schema": {"type": "string"}},
    "traceresponse": {"description": "Trace and span id (W3C Trace Context).", "schema": {"type": "string"}},
}
_RETRY_AFTER: Final = {"description": "Seconds to wait before a retry.", "schema": {"type": "integer", "minimum": 1}}
_CHALLENGE: Final = {"description": "How to authenticate.", "schema": {"type": "string"}}


def complete_description(app: FastAPI) -> None:
    """Group the routes by the module that they come from, and let the application publish the whole document."""
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    groups: dict[str, str] = {}
    for route in routes:
        module = inspect.getmodule(route.endpoint)
        assert isinstance(module, ModuleType)
        name = module.__name__.rpartition(".")[2]
        route.tags = [name]
        groups[name] = (module.__doc__ or "").strip().partition("\n")[0]
    app.openapi_tags = [{"name": name, "description": text} for name, text in groups.items()]

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schemas = document["components"]["schemas"]
    schemas[ProblemOut.__name__] = ProblemOut.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own errors, which are never sent
        schemas.pop(unused, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            _describe_answers(operation)
    return document


def _describe_answers(operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    for status in _ERRORS if "security" in operation else _PROBE_ERRORS:
        answers[str(status)] = _problem(status)
    answers["default"] = {"description": "Another error.", "content": _PROBLEM_CONTENT}
    for answer in answers.values():
        answer["headers"] = {**answer.get("headers", {}), **_HEADERS}


_PROBLEM_CONTENT: Final = {
    "application/problem+json": {"schema": {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}}
}


def _problem(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": TITLES[status], "content": _PROBLEM_CONTENT}
    if status in (429, 503):
        answer["headers"] = {"Retry-After": _RETRY_AFTER}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": _CHALLENGE}
    return answer
