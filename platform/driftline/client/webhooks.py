"""For receivers of webhooks."""

import hashlib
import hmac
import time


def verify_webhook(secret: str, signature: str, body: bytes, *, tolerance_seconds: float = 300.0) -> bool:
    """Whether a message comes from the service, unchanged and lately.

    Parameters
    ----------
    secret
        As it was given to ``put_webhook``.
    signature
        The header ``Driftline-Signature``.
    body
        The request's body, byte for byte.
    tolerance_seconds
        Age beyond which a message is taken for a repetition by somebody else.
    """
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    seconds = parts.get("t", "")
    if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= 12):
        return False
    expected = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    genuine = hmac.compare_digest(expected.encode(), parts.get("v1", "").encode())
    return genuine and abs(time.time() - int(seconds)) <= tolerance_seconds
