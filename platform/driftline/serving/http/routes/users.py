"""``/v1/users``."""

from fastapi import FastAPI, Request

from driftline.serving.calls import UserView, question_of
from driftline.serving.http import answers
from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.base import WrittenOut
from driftline.serving.http.messages.users import UserOut
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import PathUserId, Reader, Writer


def add(app: FastAPI, backends: Backends) -> None:
    """Profiles, and erasure."""

    @app.get("/v1/users/{user_id:path}")
    async def get_user(request: Request, user_id: PathUserId, key: Reader) -> UserOut:
        """Profile: interests, history, drift state and the policy now in force."""
        view: UserView = await backends.ask(backends.user_state, "read_user", key.tenant, user_id, None)
        if not view.known:
            raise Problem(404, "there is no such user: a user begins with the first event")
        portrait = await backends.ask(backends.ranker, "portray", question_of(key.tenant, user_id, view))
        return answers.user_profile(user_id, view, portrait, request.state.request_id)

    @app.delete("/v1/users/{user_id:path}")
    async def delete_user(request: Request, user_id: PathUserId, key: Writer) -> WrittenOut:
        """Erase history, drift state and served lists; deleting a user again is harmless."""
        version = await backends.ask(backends.user_state, "erase_user", key.tenant, user_id, key.key_id)
        return WrittenOut(version=version, request_id=request.state.request_id)
