from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client import options as module
from bert_serving.client.options import DTYPES, MAX_USER, NO_OPTIONS, TRUNCATE, Options

layers = st.lists(st.integers(-1000, 1000), min_size=1, max_size=5).map(tuple)
any_options = st.builds(
    Options,
    timeout=st.none() | st.floats(min_value=0, max_value=1e9, exclude_min=True),
    again=st.booleans(),
    pooling_strategy=st.none() | st.text(),
    pooling_layer=st.none() | layers,
    normalize=st.none() | st.booleans(),
    truncate=st.sampled_from(TRUNCATE),
    dtype=st.sampled_from(DTYPES),
    pairs=st.booleans(),
    tokens=st.booleans(),
    offsets=st.booleans(),
    stream=st.booleans(),
    partial=st.booleans(),
    user=st.none() | st.text(min_size=1, max_size=MAX_USER),
)


def test_all() -> None:
    for name in module.__all__:
        assert hasattr(module, name)


@given(any_options)
def test_round_trip(options: Options) -> None:
    header = json.loads(json.dumps(options.to_header()))
    assert Options.from_header(header) == options


def test_defaults_are_left_out() -> None:
    assert NO_OPTIONS.to_header() == {}
    assert Options.from_header({}) is NO_OPTIONS
    assert Options(normalize=False, truncate=False).to_header() == {
        "normalize": False,
        "truncate": False,
    }


def test_none_is_as_left_out() -> None:
    names = ("timeout", "pooling_strategy", "pooling_layer", "normalize", "user")
    assert Options.from_header(dict.fromkeys(names)) == NO_OPTIONS


def test_one_layer() -> None:
    assert Options.from_header({"pooling_layer": -2}).pooling_layer == (-2,)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"other": 1}, "the header's key 'other' is not known; known are again, dtype"),
        ({"x" * 999: 1}, r"'x+\.\.\. is not known"),
        ({"timeout": 0}, "timeout must be a positive number of seconds, but is 0"),
        ({"timeout": True}, "timeout must be"),
        ({"timeout": "1"}, "timeout must be"),
        ({"timeout": 1e10}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": 10**400}, "timeout must be"),
        ({"again": 1}, "again must be true or false, but is 1"),
        ({"again": None}, "again must be true or false, but is None"),
        ({"pooling_strategy": 1}, "pooling_strategy must be the name of a strategy"),
        ({"pooling_layer": []}, "pooling_layer must be a layer's number, or a list of some"),
        ({"pooling_layer": [True]}, "pooling_layer must be"),
        ({"pooling_layer": [1] * 1001}, "pooling_layer must be"),
        ({"pooling_layer": [1001]}, "pooling_layer must be layers of the model"),
        ({"normalize": "yes"}, "normalize must be true or false"),
        ({"truncate": True}, 'truncate must be "right", "left" or false, but is True'),
        ({"truncate": 0}, "truncate must be"),
        ({"truncate": []}, "truncate must be"),
        ({"dtype": "int8"}, "dtype must be float32 or float16, but is 'int8'"),
        ({"dtype": []}, "dtype must be"),
        ({"stream": "true"}, "stream must be true or false"),
        ({"user": ""}, "user must be a string of 1 to 200 characters, but is ''"),
        ({"user": "x" * 201}, "user must be a string"),
        ({"user": 7}, "user must be a string"),
    ],
)
def test_what_is_refused(header: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options.from_header(header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([one.name for one in fields(Options)]) | st.text(), json_values)
)
def test_whatever_comes_is_read_or_refused(header: Any) -> None:
    with contextlib.suppress(ValueError):
        options = Options.from_header(header)
        again = options.to_header()
        assert Options.from_header(again) == options
