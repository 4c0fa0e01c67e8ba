"""Nearfield in Spark: each user's factor and list, and the features of events, by the very core that runs in pages and
edges."""

from .core import Core, CoreError
from .messages import Context, Event

__all__ = ["Context", "Core", "CoreError", "Event"]
