"""What stands between the network and the Router: HAProxy, or Ray Serve's own proxy in Python.

Both give the same answers. HAProxy with Serve's high-throughput mode hands a request straight to a replica and runs our
code on the replica's own event loop, which is many times faster (docs/log.md), and asks that nothing there blocks.
"""

import socket
from pathlib import Path
from typing import Final, Literal

Ingress = Literal["haproxy", "python"]
LOG_TARGET: Final = "127.0.0.1:9"
"""The discard port: whatever is sent there is gone (RFC 863)."""


def environment(ingress: Ingress, folder: Path) -> dict[str, str]:
    """Environment variables that choose the ingress; every node needs them before Ray starts there.

    Parameters
    ----------
    folder
        For HAProxy's configuration and socket. They and its ports have fixed places by default, so that a second
        service on a machine would take over the first one's proxy; or, at the fallback's port, be sent the requests
        of the first while no Router of that lives. Its path must be short (29 characters): Serve adds
        a node id of 56, and the path of a Unix socket ends at about 100.
    """
    if ingress == "python":
        return {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
    place = folder.resolve()
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # HAProxy's access log holds paths, and paths hold user ids; by default it goes to a syslog on port 514
        "RAY_SERVE_HAPROXY_LOG_TARGET": LOG_TARGET,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(place / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(place / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(place),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(place / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
    }


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
