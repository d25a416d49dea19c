"""``/v1/webhook``."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from driftline.serving.http.messages.base import Body, Storable


class WebhookIn(Body):
    """Where the tenant wants to be told of changes."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://example.com/hooks/driftline", "secret": "a long random text"}]}
    )

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000), Storable] = Field(
        description="https, at a public address"
    )
    secret: Annotated[str, StringConstraints(min_length=16, max_length=256), Storable] = Field(
        description="messages are signed with it; it is never shown again"
    )


class WebhookOut(BaseModel):
    """The webhook as it is set."""

    url: str
    updated_at: float = Field(description="seconds since the epoch")
    waiting: int = Field(description="messages that the receiver has not taken yet")
    request_id: str


class RemovedOut(BaseModel):
    """Acknowledgement of a removal."""

    request_id: str
