"""Files and variables that hold secrets: read in one way, never quoted."""

from __future__ import annotations

import logging
import os
import re
import stat
from typing import Optional, Tuple

from bert_serving.server.errors import StartupError

__all__ = ["ADMIN_TOKEN_VARIABLE", "admin_token", "api_keys", "read_text", "warn_if_open"]

logger = logging.getLogger(__name__)

ADMIN_TOKEN_VARIABLE = "BERT_SERVING_ADMIN_TOKEN"
#: Fewer characters could be tried out.
MIN_LENGTH = 16
MAX_BYTES = 1024 * 1024
#: What goes into a header of HTTP as it is: https://www.rfc-editor.org/rfc/rfc6750#section-2.1.
_PRINTABLE = re.compile(r"[!-~]+\Z")


def admin_token(path: Optional[str]) -> Optional[str]:
    """The token in the file ``path`` or else in the environment; None if neither is there.

    Raises StartupError.
    """
    if path is not None:
        lines = _lines(path, "-admin_token_file")
        if len(lines) != 1:
            raise StartupError(
                "-admin_token_file %s must have one line, but has %d" % (path, len(lines))
            )
        return _checked(lines[0], "the token in -admin_token_file %s" % path)
    value = os.environ.get(ADMIN_TOKEN_VARIABLE, "").strip()
    return _checked(value, "the token in %s" % ADMIN_TOKEN_VARIABLE) if value else None


def api_keys(path: str) -> Tuple[str, ...]:
    """The keys in a file that has one a line; lines that begin with # are comments.

    Raises StartupError.
    """
    lines = _lines(path, "-http_api_key_file")
    if not lines:
        raise StartupError("-http_api_key_file %s has no key: write one into each line" % path)
    name = "a key in -http_api_key_file %s" % path
    return tuple(_checked(line, name) for line in lines)


def warn_if_open(path: str) -> None:
    """Warn if every user of this machine may read a secret."""
    if os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH):
        logger.warning("%s can be read by every user of this machine: chmod 600 it", path)


def read_text(path: str, what: str) -> str:
    """What stands in a file. Raises StartupError."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise StartupError("can't read %s %s: %s" % (what, path, error.strerror)) from error
    except UnicodeDecodeError:
        raise StartupError("%s %s is no text" % (what, path)) from None


def _lines(path: str, flag: str) -> Tuple[str, ...]:
    text = read_text(path, flag)
    warn_if_open(path)
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _checked(secret: str, name: str) -> str:
    if len(secret) < MIN_LENGTH or not _PRINTABLE.match(secret):
        raise StartupError(
            "%s must have at least %d characters, all of them ASCII and none a space; make one by "
            "python -c 'import secrets; print(secrets.token_urlsafe())'" % (name, MIN_LENGTH)
        )
    return secret
