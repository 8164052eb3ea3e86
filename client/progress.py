"""A progress bar over the rows of a request, which comes in parts for it."""

from __future__ import annotations

from typing import Any, Iterable, List

from bert_serving.client.parts import assemble
from bert_serving.client.protocol import VectorsReply
from bert_serving.client.requests import Taken
from bert_serving.client.responses import vectors_in

__all__ = ["take_with_progress"]


def take_with_progress(parts: Iterable[Taken], rows: int) -> Taken:
    """All ``parts`` of a stream of ``rows`` as one reply, with a tqdm bar meanwhile.

    Raises ImportError without tqdm, and what comes instead of a part, as ``vectors_in`` does.
    """
    replies: List[VectorsReply] = []
    with _bar(rows) as bar:
        for taken in parts:
            replies.append(vectors_in(taken.reply))
            bar.update(len(replies[-1].array))
    return taken._replace(reply=assemble(replies, rows))


def _bar(rows: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(
            "show_progress=True needs tqdm: pip install tqdm, or leave show_progress out"
        ) from error
    return tqdm(total=rows, unit="text")
