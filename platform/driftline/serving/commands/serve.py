"""``driftline serve``: the service as one command."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from driftline.serving.ingress import Ingress, environment


def serve(
    bundle: Annotated[
        Path | None,
        typer.Option(help="Directory of the bundle to serve. Default: $DRIFTLINE_BUNDLE.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    ingress: Annotated[
        Ingress,
        typer.Option(help="haproxy: many times faster; python: Ray Serve's own proxy, as `serve run` uses by default."),
    ] = "haproxy",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the service, such as max_model_replicas=4; may be given repeatedly."),
    ] = None,
    show_settings: Annotated[bool, typer.Option(help="List every setting with its default, and exit.")] = False,
) -> None:
    """Serve a bundle over HTTP until Ctrl-C. Starts Ray here, or joins the cluster that $RAY_ADDRESS names.

    The same application runs by `serve run serve/app.yaml` and by `serve deploy`; see docs/serving.md.
    """
    from driftline.serving.app import AppArgs

    if show_settings:
        for name, field in AppArgs.model_fields.items():
            typer.echo(f"{name}  [{field.get_default(call_default_factory=True)}]  {field.description or ''}".rstrip())
        return
    args = _arguments(settings or []) | ({"bundle": str(bundle.resolve())} if bundle else {})
    _check(args)
    become_serve("driftline.serving.app:build_app", args, host, port, ingress)


def become_serve(import_path: str, args: dict[str, Any], host: str, port: int, ingress: Ingress) -> NoReturn:
    """Turn this process into ``serve run`` with an application and an ingress. Does not return."""
    import yaml

    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": 60},
        "logging_config": {"encoding": "JSON", "enable_access_log": False},  # paths hold user ids
        "applications": [{"name": "driftline", "route_prefix": "/", "import_path": import_path, "args": args}],
    }
    # It outlives this process, for `serve run` reads it; and its path must be short (see `environment`)
    folder = Path(tempfile.mkdtemp(prefix="driftline-", dir="/tmp"))
    path = folder / "app.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    variables = {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"} | os.environ | environment(ingress, folder)
    os.execve(sys.executable, [sys.executable, "-m", "ray.serve.scripts", "run", str(path)], variables)


def _arguments(settings: list[str]) -> dict[str, Any]:
    import yaml

    from driftline.errors import ConfigError

    faults = [f"--set {setting!r}: write name=value" for setting in settings if "=" not in setting]
    if faults:
        raise ConfigError(faults, "driftline serve")
    pairs = (setting.partition("=") for setting in settings)
    return {name.strip(): yaml.safe_load(value) for name, _, value in pairs}


def _check(args: dict[str, Any]) -> None:
    """A fault is told here in a sentence, and not in a replica's log."""
    from pydantic import ValidationError

    from driftline.errors import ConfigError
    from driftline.serving.app import AppArgs, build_app

    try:
        build_app(AppArgs.model_validate(args))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc']))}={f['input']!r}: {f['msg']}" for f in error.errors()]
        raise ConfigError([*faults, "`driftline serve --show-settings` lists them all"], "driftline serve") from error
