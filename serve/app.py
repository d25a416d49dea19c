"""Builder for ``serve run``, ``serve build`` and ``serve deploy``."""

from ray.serve import Application

from driftline.serving.app import AppArgs, build_app


def build(args: AppArgs) -> Application:
    """Build the Driftline application."""
    return build_app(args)
