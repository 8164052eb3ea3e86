from __future__ import annotations

from typing import Any, Dict

from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.ledger import SLACK, Ledger
from bert_serving.server.work import Opened


def test_what_has_ended_leaves_nothing_though_its_deadline_is_far() -> None:
    ledger = Ledger()
    for handle in range(10_000):
        ledger.open(Opened(handle, b"client", 1, 3600.0))
        ledger.end(handle)
    assert len(ledger._deadlines) <= SLACK
    ledger.validate()


@given(st.lists(st.tuples(st.sampled_from(["open", "end", "wait"]), st.integers(0, 300))))
def test_each_open_request_expires_once(steps: Any) -> None:
    ledger = Ledger()
    due: Dict[int, float] = {}
    now, handle = 0.0, 0
    for what, number in steps * 5:
        if what == "open":
            handle += 1
            due[handle] = now + number
            ledger.open(Opened(handle, b"client %d" % (number % 3), 1, due[handle]))
        elif what == "end" and due:
            ended = sorted(due)[number % len(due)]
            ledger.end(ended)
            del due[ended]
        else:
            now += number / 10
            expected = sorted(one for one, at in due.items() if at <= now)
            assert sorted(one for one in ledger.expired(now) if one in ledger) == expected
            for one in expected:
                ledger.end(one)
                del due[one]
        ledger.validate()
