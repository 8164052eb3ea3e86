"""Who may do what: who bears an identity, and who may give a command for all."""

from __future__ import annotations

import hmac
import logging
from typing import Optional

import zmq

from bert_serving.client.curve import is_bound
from bert_serving.client.protocol import Request
from bert_serving.server.addresses import is_loopback, peer_of
from bert_serving.server.curve import peer_key
from bert_serving.server.logs import Complaints
from bert_serving.server.spec import SecuritySpec

__all__ = ["Authority"]

logger = logging.getLogger(__name__)


class Authority:
    """``frame`` is one of the request's, which ZeroMQ has said of where it comes from."""

    def __init__(self, spec: SecuritySpec) -> None:
        self._token = spec.admin_token
        self._binds_identities = spec.curve is not None
        # One for each, so that none of them hides the other.
        self._of_identities, self._of_commands = Complaints(logger), Complaints(logger)

    def may_use(self, identity: bytes, frame: zmq.Frame) -> bool:
        """Whether a request may bear ``identity``: with -curve, only one that belongs to its key.

        A request that may not is answered nowhere: the answer would go to somebody else.
        """
        if not self._binds_identities:
            return True
        key = peer_key(frame)
        if key is not None and is_bound(identity, key):
            return True
        self._of_identities.warn("refused a request from %s in another's name" % peer_of(frame))
        logger.debug("it was in the name of %r by the key %s", identity, key)
        return False

    def may_administer(self, what: str, request: Request, frame: zmq.Frame) -> bool:
        """Whether whoever sent ``request`` may ``what``: from this machine, or with the token."""
        peer = peer_of(frame)
        if is_loopback(peer) or self._is_token(request.admin_token):
            return True
        reason = "the admin token is another"
        if request.admin_token is None:
            reason = "only this machine may ask for it, or who has the admin token"
        elif self._token is None:
            reason = "this server has no admin token"
        self._of_commands.warn("refused to %s for %s: %s" % (what, peer, reason))
        logger.debug("refused it to %s: %s", peer, reason)
        return False

    def _is_token(self, shown: Optional[str]) -> bool:
        if shown is None or self._token is None:
            return False
        # In time that doesn't depend on how much of it is right.
        return hmac.compare_digest(
            shown.encode("utf-8", "surrogatepass"), self._token.encode("ascii")
        )
