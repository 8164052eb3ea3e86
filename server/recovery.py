"""After the ventilator or the sink was lost: what can still be saved before all are started again.

Clients of protocol 2 ask again. Those of protocol 1 don't, and some wait without an end: whoever of
the two is left tells which of their requests are open, and the next ventilator answers those with
an error.
"""

from __future__ import annotations

from typing import List, Set, Tuple

from bert_serving.server.children import Child
from bert_serving.server.processes import Event, Processes

__all__ = ["Recovery"]

#: Seconds for that.
LAST_WORD_TIMEOUT = 0.5


class Recovery:
    """One start of the pipeline, from a loss on."""

    def __init__(self, processes: Processes, now: float) -> None:
        self._deadline = now + LAST_WORD_TIMEOUT
        self._asked: Set[str] = set()
        self.is_restarted = False
        #: (identity as Latin-1, request id)
        self.lost_requests: List[Tuple[str, int]] = []
        for child in processes.of("ventilator", "sink"):
            if child.is_ready and child.verdict is None:
                self._asked.add(child.identity)
                processes.tell_one(child, "abandon")

    def reported(self, child: Child, event: Event) -> None:
        """A process has reported an event."""
        if event["event"] == "abandoned" and child.identity in self._asked:
            self._asked.remove(child.identity)
            self.lost_requests += [(client, number) for client, number in event["requests"]]

    def lost(self, child: Child) -> None:
        """A process has died, too."""
        self._asked.discard(child.identity)

    def is_due(self, now: float) -> bool:
        """Whether the processes can be started again."""
        return not self.is_restarted and (not self._asked or now >= self._deadline)
