"""What a figure was measured with: stored beside every figure that is reported."""

import os
import platform
from importlib import metadata
from typing import Any

PACKAGES = ("driftline", "torch", "transformers", "peft", "deepspeed", "ray")


def versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def provenance(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """Hardware, versions, seed and the whole configuration, ready for JSON."""
    hardware = {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.platform()}
    return {"hardware": hardware, "versions": versions(), "seed": seed, "config": config}
