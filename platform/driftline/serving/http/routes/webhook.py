"""Where a tenant is told of changes."""

from fastapi import FastAPI, Request

from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.webhook import RemovedOut, WebhookIn, WebhookOut
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import Admin
from driftline.state.outbox import Webhook


def add(app: FastAPI, backends: Backends) -> None:
    def answer(request: Request, webhook: Webhook) -> WebhookOut:
        return WebhookOut(
            url=webhook.url,
            updated_at=webhook.updated_at,
            waiting=webhook.num_waiting,
            request_id=request.state.request_id,
        )

    @app.put("/v1/webhook")
    async def put_webhook(request: Request, body: WebhookIn, key: Admin) -> WebhookOut:
        """Tell changes there from now on: of users' interests, and of the share of users whose interests change."""
        state = backends.user_state
        return answer(request, await backends.ask(state, "set_webhook", key.tenant, body.url, body.secret, key.key_id))

    @app.get("/v1/webhook")
    async def get_webhook(request: Request, key: Admin) -> WebhookOut:
        """Read where changes are told, without the secret."""
        found: Webhook | None = await backends.ask(backends.user_state, "webhook", key.tenant)
        if found is None:
            raise Problem(404, "there is no webhook: set one with PUT")
        return answer(request, found)

    @app.delete("/v1/webhook")
    async def delete_webhook(request: Request, key: Admin) -> RemovedOut:
        """Tell nothing any more, nor what still waits; deleting it again is harmless."""
        await backends.ask(backends.user_state, "delete_webhook", key.tenant, key.key_id)
        return RemovedOut(request_id=request.state.request_id)
