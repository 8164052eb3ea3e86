"""AsyncBertClient against a real bert-as-service 1.10."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict

import numpy as np
import pytest
from e2e.support import Reference, check

from bert_serving.client import AsyncBertClient, NotSupported

#: The environment is made within the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run_async(options: Dict[str, Any], work: Callable[[AsyncBertClient], Any]) -> None:
    async def main() -> None:
        async with AsyncBertClient(check_length=False, **options) as client:
            await work(client)

    asyncio.run(main())


def test_asyncio(options: Dict[str, Any], reference: Reference) -> None:
    async def work(client: AsyncBertClient) -> None:
        assert (await client.server_config())["server_version"] == "1.10.0"
        check(await client.encode(reference.texts), reference.vectors)
        assert (await client.server_status())["statistic"]["num_data_request"] >= 1
        _, tokens = await client.encode(reference.texts, show_tokens=True)
        assert tokens == reference.tokens
        single = [client.encode([text]) for text in reference.texts]
        check(np.concatenate(await asyncio.gather(*single)), reference.vectors)
        parts = [part async for part in client.encode(reference.texts, stream=True)]
        assert [rows.tolist() for rows, _ in parts] == [list(range(len(reference.texts)))]
        check(parts[0][1], reference.vectors)
        with pytest.raises(NotSupported, match="truncate"):
            await client.encode(reference.texts, truncate=False)

    run_async(options, work)


def test_a_cancelled_task(options: Dict[str, Any], reference: Reference) -> None:
    """1.10 knows no CANCEL: it computes for nothing, and nobody else is disturbed."""

    async def work(client: AsyncBertClient) -> None:
        task = asyncio.ensure_future(client.encode(reference.texts))
        while not client.status["num_pending_request"]:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        check(await client.encode(reference.texts), reference.vectors)
        assert client.status["num_pending_request"] == 0

    run_async(options, work)
