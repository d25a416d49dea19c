"""What all routes share: the scope that each needs, and the errors that each may answer with."""

from typing import Annotated, Any

from fastapi import Depends, Path

from driftline.serving.auth import Needs
from driftline.serving.calls import Principal
from driftline.serving.messages.base import Id, ProblemOut

Reader = Annotated[Principal, Depends(Needs("read"))]
Writer = Annotated[Principal, Depends(Needs("write"))]
PathId = Annotated[Id, Path()]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut, "content": {"application/problem+json": {}}}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 503, 504)
}
