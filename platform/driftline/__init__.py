"""Fine-tune LLM recommenders on Ray, serve them, and notice when a user's interests change.

    import driftline

    model = driftline.load("path/to/bundle")
    model.recommend(["50", "181", "172"], k=10)
    model.drift(["50", "181", "172"]).p_drift

``import driftline`` alone is cheap: torch and the rest are imported by the first ``load``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftline.registry.model import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from driftline.registry.model import load

        return load
    raise AttributeError(f"module 'driftline' has no attribute {name!r}")
