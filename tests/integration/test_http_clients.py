"""Clients of others, as they are published, pointed at this server."""

from __future__ import annotations

import asyncio
from typing import Any, Iterator

import numpy as np
import pytest
from integration.test_http_service import expected, unit
from support import PATIENCE, http_flags, running, url_of

from bert_serving.server import BertServer

TEXTS = ["hello world", "a longer text", "x"]


@pytest.fixture(scope="module")
def server() -> Iterator[BertServer]:
    with running("-engine", "echo", *http_flags(), "-http_max_rows", "100") as running_server:
        yield running_server


# ---------------------------------------------------------------------------------- openai


@pytest.fixture
def client(server: BertServer) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(
        base_url=url_of(server) + "/v1", api_key="any", timeout=PATIENCE, max_retries=0
    ) as made:
        yield made


def test_openai(client: Any) -> None:
    answer = client.embeddings.create(model="echo", input=TEXTS)  # base64 on the wire
    found = np.array([one.embedding for one in answer.data], np.float32)
    np.testing.assert_array_equal(found, expected(TEXTS))
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert answer.model == "echo"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_openai_encodings(client: Any, encoding: str) -> None:
    answer = client.embeddings.create(model="default", input="hi", encoding_format=encoding)
    (one,) = answer.data
    if encoding == "float":
        np.testing.assert_array_equal(np.array(one.embedding, np.float32), expected(["hi"])[0])
    else:
        assert len(one.embedding) == 768 * 4 // 3 * 4


def test_openai_dimensions_and_token_ids(client: Any) -> None:
    answer = client.embeddings.create(model="echo", input=[[5, 6], [7]], dimensions=10)
    vectors = np.array([one.embedding for one in answer.data])
    assert vectors.shape == (2, 10)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)


def test_openai_batches(client: Any) -> None:
    texts = ["text %d" % number for number in range(100)]
    answer = client.embeddings.create(model="echo", input=texts)
    found = np.array([one.embedding for one in answer.data], np.float32)
    np.testing.assert_array_equal(found, expected(texts))


def test_openai_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["echo"]
    assert client.models.retrieve("echo").owned_by == "bert-serving"


def test_openai_errors(client: Any) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="text-embedding-3-small", input="hi")
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="whitespace") as wrong:
        client.embeddings.create(model="echo", input=["hi", " "])
    assert (wrong.value.param, wrong.value.type) == ("input", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="at most 768"):
        client.embeddings.create(model="echo", input="hi", dimensions=4000)
    with pytest.raises(openai.APIStatusError, match="http_max_rows") as many:
        client.embeddings.create(model="echo", input=["hi"] * 101)
    assert many.value.status_code == 413


def test_openai_async(server: BertServer) -> None:
    openai = pytest.importorskip("openai")

    async def ask() -> None:
        async with openai.AsyncOpenAI(
            base_url=url_of(server) + "/v1", api_key="any", timeout=PATIENCE
        ) as client:
            answers = await asyncio.gather(
                *(client.embeddings.create(model="echo", input=text) for text in TEXTS)
            )
            found = np.array([answer.data[0].embedding for answer in answers], np.float32)
            np.testing.assert_array_equal(found, expected(TEXTS))
            with pytest.raises(openai.NotFoundError):
                await client.embeddings.create(model="gpt", input="hi")

    asyncio.run(ask())


# ------------------------------------------------------ clients of text-embeddings-inference


def inference_client(url: str) -> Any:
    """LangChain's HuggingFaceEndpointEmbeddings asks by this."""
    hub = pytest.importorskip("huggingface_hub")
    if tuple(map(int, hub.__version__.split(".")[:2])) < (0, 30):
        pytest.skip("this release sends other requests")
    return hub.InferenceClient(model=url, timeout=PATIENCE)


@pytest.mark.parametrize("path", ["", "/", "/embed"])
def test_huggingface_hub(server: BertServer, path: str) -> None:
    client = inference_client(url_of(server) + path)
    np.testing.assert_array_equal(client.feature_extraction("hi"), unit(expected(["hi"])))
    raw = client.feature_extraction(TEXTS, normalize=False)
    np.testing.assert_array_equal(raw, expected(TEXTS))
    cut = client.feature_extraction("x " * 600, truncate=True, truncation_direction="left")
    assert cut.shape == (1, 768)


def test_huggingface_hub_errors(server: BertServer) -> None:
    client = inference_client(url_of(server))
    from huggingface_hub.errors import HfHubHTTPError

    with pytest.raises(HfHubHTTPError) as raised:
        client.feature_extraction("x " * 600)
    assert raised.value.response.status_code == 413


def test_llama_index_s_request(server: BertServer) -> None:
    """As TextEmbeddingsInference of llama-index sends it."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(trust_env=False) as client:
        answer = client.post(
            url_of(server) + "/embed",
            headers={"Content-Type": "application/json"},
            json={"inputs": TEXTS, "truncate": True},
            timeout=PATIENCE,
        )
    np.testing.assert_array_equal(np.array(answer.json(), np.float32), unit(expected(TEXTS)))
