"""The gold-path expert: follows a recorded solution for as long as the episode is on it."""

from __future__ import annotations

from stepagent_envs.scienceworld.catalogue import GoldPath

__all__ = ["FREE_ACTIONS", "Follower"]

FREE_ACTIONS = frozenset({"look around", "look", "inventory", "task", "help", "objects"})
"""Actions that take no time and change nothing."""


class Follower:
    """Keeps the place in a gold path.

    An action that is the path's next one advances; actions that change nothing may be added or left out; anything else
    leaves the path for good, for the world has gone another way.

    Args:
        path: the solution, or None when none is known. A path that does not complete its task is not followed.
    """

    def __init__(self, path: GoldPath | None) -> None:
        self._path = path.actions if path is not None and path.completed else ()
        self._place: int | None = 0

    @property
    def on_path(self) -> bool:
        """The episode is on the path and the path goes on."""
        return self._place is not None and self._place < len(self._path)

    def saw(self, action: str) -> None:
        """Take note of an action that was carried out."""
        if self._place is None:
            return
        place = self._place
        while place < len(self._path):
            if self._path[place] == action:
                self._place = place + 1
                return
            if self._path[place] not in FREE_ACTIONS:
                break
            place += 1
        if action not in FREE_ACTIONS:
            self._place = None

    def next(self, menu: str | None = None) -> str | None:
        """The path's next action, None off the path.

        Args:
            menu: the ambiguous action whose menu is open; where it is the path's own, the answer comes next.
        """
        if not self.on_path:
            return None
        assert self._place is not None
        place = self._place + (menu is not None and self._path[self._place] == menu)
        return self._path[place] if place < len(self._path) else None
