"""A bundle for another protocol, from a bundle's own configuration.

Two protocols hold out different events, so one set of weights cannot be honestly measured by both. The sibling is
trained once from the same configuration on the other protocol's training events, and kept.
"""

from pathlib import Path

from rich.console import Console

from driftline.config import Protocol, find_conflicts
from driftline.errors import ConfigError
from driftline.registry.model import Model
from driftline.training.trainer import train


def sibling_path(model: Model, protocol: Protocol) -> Path:
    """Where the sibling lies, trained or not."""
    return model.config.storage / "siblings" / f"{model.version}--{protocol}"


def for_protocol(bundle: Path, model: Model, protocol: Protocol, console: Console) -> Path:
    """The bundle itself if it was trained for this protocol, else its sibling, trained now if need be.

    Raises
    ------
    ConfigError
        If the bundle's configuration cannot be trained under this protocol.
    """
    if model.config.protocol == protocol:
        return bundle
    place = sibling_path(model, protocol)
    if not (place / "manifest.json").is_file():
        config = model.config.model_copy(update={"protocol": protocol, "name": f"{model.config.name}-{protocol}"})
        if conflicts := find_conflicts(config):
            raise ConfigError(conflicts, f"{model.version} under protocol={protocol}")
        console.print(
            f"[bold]{model.version}[/bold] was trained for {model.config.protocol}; {protocol} holds out other events, "
            f"so a sibling is trained from the same configuration (kept in {place})",
            highlight=False,
        )
        train(config, console, target=place)
    return place
