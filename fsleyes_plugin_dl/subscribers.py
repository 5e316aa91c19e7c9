"""Panels that follow what is shown in their window, and their notification."""

from __future__ import annotations

import logging
from typing import Any, Protocol
from weakref import WeakKeyDictionary

__all__ = ["Subscriber", "notify", "subscribe", "unsubscribe"]

_log = logging.getLogger(__name__)


class Subscriber(Protocol):
    """A panel that follows the scene of its window."""

    def sceneChanged(self) -> None:
        """Show the scene of other results, or none."""

    def mapChanged(self) -> None:
        """Show another map, metabolite or threshold."""

    def voxelChanged(self) -> None:
        """Show another voxel."""


# By window of FSLeyes, in the order of their subscription.
_subscribers: WeakKeyDictionary[Any, WeakKeyDictionary[Subscriber, bool]] = WeakKeyDictionary()


def subscribe(frame: Any, subscriber: Subscriber) -> None:
    """Notify a subscriber of every change of the scene in a window, until :func:`unsubscribe`."""
    _subscribers.setdefault(frame, WeakKeyDictionary())[subscriber] = True


def unsubscribe(frame: Any, subscriber: Subscriber) -> None:
    """Notify a subscriber no longer."""
    if frame in _subscribers:
        _subscribers[frame].pop(subscriber, None)


def notify(frame: Any, change: str) -> None:
    """Call the method of that name of every subscriber.  One that fails does not keep the others from being called."""
    for subscriber in list(_subscribers.get(frame, ())):
        try:
            getattr(subscriber, change)()
        except Exception:
            _log.exception("A panel did not follow the results.")
