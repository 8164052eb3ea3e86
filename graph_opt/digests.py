"""Digests of files, remembered so that a second start needn't read them again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Optional

from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.files import PathLike, atomic_write, user_cache_dir

__all__ = ["sha256_of"]

_CHUNK = 1 << 20
_MEMO = "digests.json"


def sha256_of(path: PathLike, directory: Optional[PathLike] = None) -> str:
    """SHA-256 of a file's contents, in hexadecimal.

    The digest is kept in ``digests.json`` in the cache directory, under the file's path, size,
    modification time and inode; while these stay, the file isn't read again. A memo that can't be
    read or written costs time, nothing else.

    Raises:
        GraphOptError: the file can't be read.
    """
    file = Path(path)
    memo_file = (Path(directory) if directory else user_cache_dir()) / _MEMO
    try:
        identity = _identity(file)
        memo = _read_memo(memo_file)
        known = memo.get(str(file.resolve()))
        if isinstance(known, dict) and known.get("identity") == identity:
            digest = known.get("sha256")
            if isinstance(digest, str) and len(digest) == 64:
                return digest
        digest = _hash(file)
        # Not remembered if somebody wrote to the file meanwhile.
        if _identity(file) == identity:
            _remember(memo_file, str(file.resolve()), {"identity": identity, "sha256": digest})
    except OSError as error:
        raise GraphOptError("can't read %s: %s" % (file, error.strerror or error)) from error
    return digest


def _identity(path: Path) -> str:
    status = path.stat()
    return "%d %d %d" % (status.st_size, status.st_mtime_ns, status.st_ino)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _read_memo(path: Path) -> Dict[str, Any]:
    try:
        memo = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Absent or damaged: the digests are computed anew and the memo with them.
        return {}
    return memo if isinstance(memo, dict) else {}


def _remember(memo_file: Path, path: str, entry: Dict[str, str]) -> None:
    memo = _read_memo(memo_file)  # again: another process may have added to it while we hashed
    memo[path] = entry
    try:
        memo_file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(memo_file, json.dumps(memo, indent=0, sort_keys=True))
    except OSError:
        # The digest is right all the same; where artifacts go, an unwritable directory is reported.
        return
