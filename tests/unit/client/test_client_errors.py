from __future__ import annotations

import pickle

import pytest

from bert_serving.client import errors
from bert_serving.client.protocol import ErrorKind

KINDS = {
    ErrorKind.BAD_REQUEST: errors.BadRequest,
    ErrorKind.TOO_LONG: errors.TextTooLong,
    ErrorKind.OVERLOADED: errors.Overloaded,
    ErrorKind.DEADLINE: errors.DeadlineExceeded,
    ErrorKind.SHUTTING_DOWN: errors.ShuttingDown,
    ErrorKind.WORKER_FAILED: errors.WorkerFailed,
    ErrorKind.INTERNAL: errors.InternalError,
}


def test_all() -> None:
    assert errors.__all__ == [
        "BertServingError",
        "ConnectionFailed",
        "RequestTimeout",
        "ProtocolError",
        "ModelChanged",
        "VersionMismatch",
        "NotSupported",
        "ClientClosed",
        "ClientForked",
        "PoolExhausted",
        "ServerError",
        "BadRequest",
        "TextTooLong",
        "DeadlineExceeded",
        "Overloaded",
        "ShuttingDown",
        "WorkerFailed",
        "InternalError",
        "server_error",
    ]
    for name in errors.__all__[:-1]:
        assert issubclass(getattr(errors, name), errors.BertServingError)
        assert name in (errors.__doc__ or "")


def test_every_kind_has_a_class() -> None:
    assert set(KINDS) == {v for k, v in vars(ErrorKind).items() if not k.startswith("_")}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_server_error(kind: str) -> None:
    error = errors.server_error(kind, "what happened")
    assert type(error) is KINDS[kind]
    assert error.kind == kind
    assert str(error) == "what happened"


def test_when_to_ask_again() -> None:
    error = errors.server_error(ErrorKind.OVERLOADED, "too much", 1.5)
    assert isinstance(error, errors.Overloaded)
    assert error.retry_after == 1.5
    assert pickle.loads(pickle.dumps(error)).retry_after == 1.5
    assert errors.Overloaded("too much").retry_after is None


def test_unknown_kind() -> None:
    error = errors.server_error("quota", "too much")
    assert type(error) is errors.ServerError
    assert error.kind == "quota"


@pytest.mark.parametrize("kind", [*sorted(KINDS), "quota"])
def test_errors_can_be_pickled(kind: str) -> None:
    copy = pickle.loads(pickle.dumps(errors.server_error(kind, "what happened")))
    assert (type(copy), copy.kind, str(copy)) == (
        KINDS.get(kind, errors.ServerError),
        kind,
        "what happened",
    )


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.RequestTimeout, TimeoutError),
        (errors.DeadlineExceeded, TimeoutError),
        (errors.BadRequest, ValueError),
        (errors.TextTooLong, errors.BadRequest),
        (errors.NotSupported, ValueError),
        (errors.VersionMismatch, AttributeError),
        (errors.PoolExhausted, RuntimeError),
        (errors.ConnectionFailed, ConnectionError),
    ],
)
def test_built_in_bases(error: type, base: type) -> None:
    assert issubclass(error, base)
