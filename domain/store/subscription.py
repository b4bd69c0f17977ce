"""Following one institution's events as they are stored, in the caller's own thread, without NOTIFY."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Event
from typing import Self

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

POLL_SECONDS = 0.05
BATCH = 500


class PolledSubscription(Subscription[ApplicationRecorder]):
    """Yields every event after `gt`, then waits for more until stopped. `stop()` may be called from any thread."""

    def __init__(self, recorder: ApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder, gt, topics)
        self._waiting: deque[Notification] = deque()
        self._stopped = Event()

    def stop(self) -> None:
        """End the iteration, also one that is waiting."""
        super().stop()
        self._stopped.set()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            if self._waiting:
                notification = self._waiting.popleft()
                self._last_notification_id = notification.id
                return notification
            self._waiting.extend(
                self._recorder.select_notifications(
                    self._last_notification_id or 0, BATCH, topics=self._topics, inclusive_of_start=False
                )
            )
            if not self._waiting:
                self._stopped.wait(POLL_SECONDS)
        raise StopIteration
