"""How much may wait for clients, and who loses what of it. Pure."""

from __future__ import annotations

import math
from typing import Dict, Iterator, Tuple

from bert_serving.server.outbox import EXCUSE_BYTES, Outbox, Totals
from bert_serving.server.replies import Reply

__all__ = ["EXCUSES_SHARE", "MAX_EXCUSES", "OutboxBounds"]

#: Excuses kept for a client; of what is older, it hears nothing.
MAX_EXCUSES = 10_000
#: The part of all that may wait that is for excuses, and for nothing else. Without it, those who
#: never read could fill all of it with excuses.
EXCUSES_SHARE = 1 / 8
#: The part of a bound that is made free when it is exceeded. All clients are looked at for that,
#: which must not be so for each reply.
SLACK = 1 / 16


class OutboxBounds:
    """At most ``most`` bytes in all outboxes, and for each client ``most_of_client`` and excuses;
    0: any number. One reply may wait in any case.
    """

    def __init__(self, totals: Totals, most: int, most_of_client: int) -> None:
        of_excuses = int(most * EXCUSES_SHARE)
        self._totals = totals
        self._most_of_replies = most - of_excuses if most else math.inf
        self._most_excuses = of_excuses // EXCUSE_BYTES if most else math.inf
        self._most_of_client = most_of_client or math.inf

    @property
    def are_exceeded(self) -> bool:
        """Those of all outboxes."""
        totals = self._totals  # this is asked at every step, mostly when little waits
        return (
            totals.reply_bytes > self._most_of_replies and totals.replies > 1
        ) or totals.excuses > self._most_excuses

    @property
    def too_many_replies(self) -> bool:
        return self._totals.reply_bytes > self._most_of_replies and self._totals.replies > 1

    @property
    def too_many_excuses(self) -> bool:
        return self._totals.excuses > self._most_excuses

    def has_room(self, outbox: Outbox, reply: Reply) -> bool:
        """Whether one more may wait for a client, as far as that client goes."""
        return not outbox or outbox.size + reply.size <= self._most_of_client

    def excessive_replies(self, outboxes: Dict[bytes, Outbox]) -> Iterator[bytes]:
        """Whose replies are to be thrown away at once: who has most of them first."""
        sizes = {name: outbox.reply_bytes for name, outbox in outboxes.items()}
        for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if self._totals.reply_bytes <= self._most_of_replies * (1 - SLACK):
                return
            yield name

    def excessive_excuses(self, outboxes: Dict[bytes, Outbox]) -> Iterator[Tuple[bytes, int]]:
        """Of whose excuses how many are to be forgotten at once: the older half of who has most of
        them first.
        """
        most = self._most_excuses * (1 - SLACK)
        while self._totals.excuses > most:
            counts = {name: outbox.excuses for name, outbox in outboxes.items() if outbox.excuses}
            for name in sorted(counts, key=counts.__getitem__, reverse=True):
                if self._totals.excuses <= most:
                    return
                yield name, (counts[name] + 1) // 2
