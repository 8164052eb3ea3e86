from __future__ import annotations

from typing import List

from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.histograms import Histogram


@given(
    st.lists(st.floats(-1, 1e6), min_size=1, max_size=9, unique=True).map(sorted),
    st.lists(st.floats(-10, 1e7), max_size=30),
)
def test_each_bucket_counts_what_is_at_most_its_bound(
    bounds: List[float], values: List[float]
) -> None:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    report = histogram.report()
    for bound, count in report["buckets"][:-1]:
        assert count == sum(value <= bound for value in values)
    assert report["buckets"][-1] == ["+Inf", len(values)]
    assert report["count"] == len(values)
    assert abs(report["sum"] - sum(values)) <= 1e-6 * (1 + sum(map(abs, values)))
