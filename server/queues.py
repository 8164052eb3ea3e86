"""A request's rows that wait: in their order, or by length."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, List, Sequence, Union

from bert_serving.server.batching import Row

__all__ = ["ByLength", "InOrder", "Queue"]


class InOrder:
    """A few rows, which leave in the order in which they came."""

    def __init__(self) -> None:
        self._rows: List[Row] = []
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._rows)

    def all(self) -> List[Row]:
        return self._rows

    def extend(self, rows: Sequence[Row]) -> None:
        self._rows += rows
        self.tokens += sum([row[2] for row in rows])

    def first_length(self) -> int:
        """The length of the row that it is best to begin with."""
        return self._rows[0][2]

    def count(self, available: Dict[int, int]) -> None:
        """Add what is there to ``available``, length -> rows."""
        for row in self._rows:
            length = row[2]
            available[length] = available.get(length, 0) + 1

    def take(self, wanted: Dict[int, int]) -> List[Row]:
        """Rows of wanted lengths, as many as there are and as are wanted, which is counted down."""
        taken: List[Row] = []
        left: List[Row] = []
        for row in self._rows:
            length = row[2]
            if wanted.get(length, 0):
                wanted[length] -= 1
                self.tokens -= length
                taken.append(row)
            else:
                left.append(row)
        self._rows = left
        return taken


class ByLength:
    """Many rows, of which nobody waits for one in particular."""

    def __init__(self) -> None:
        self._rows: Dict[int, Deque[Row]] = {}
        self._count = 0
        self.tokens = 0

    def __len__(self) -> int:
        return self._count

    def all(self) -> List[Row]:
        return [row for rows in self._rows.values() for row in rows]

    def extend(self, rows: Sequence[Row]) -> None:
        groups = self._rows
        for row in rows:
            length = row[2]
            if length in groups:
                groups[length].append(row)
            else:
                groups[length] = deque((row,))
            self.tokens += length
        self._count += len(rows)

    def first_length(self) -> int:
        """The longest: what is left in the end then fits anywhere."""
        return max(self._rows)

    def count(self, available: Dict[int, int]) -> None:
        """As in InOrder."""
        for length, rows in self._rows.items():
            available[length] = available.get(length, 0) + len(rows)

    def take(self, wanted: Dict[int, int]) -> List[Row]:
        """As in InOrder."""
        taken: List[Row] = []
        for length, most in wanted.items():
            group = self._rows.get(length)
            if group is None or most == 0:
                continue
            count = min(most, len(group))
            if count == len(group):
                taken += self._rows.pop(length)
            else:
                taken += [group.popleft() for _ in range(count)]
            wanted[length] -= count
            self.tokens -= count * length
        self._count -= len(taken)
        return taken


Queue = Union[InOrder, ByLength]
