"""What all routes share: the scope that each needs."""

from typing import Annotated

from fastapi import Depends, Path

from driftline.serving.calls import Principal
from driftline.serving.http.auth import Needs
from driftline.serving.http.messages.base import Id, UserId

Reader = Annotated[Principal, Depends(Needs("read"))]
Writer = Annotated[Principal, Depends(Needs("write"))]
Admin = Annotated[Principal, Depends(Needs("admin"))]
PathId = Annotated[Id, Path()]
PathUserId = Annotated[UserId, Path()]
