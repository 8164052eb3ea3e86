"""Packaging: the top-level folders become the packages of the namespace ``bert_serving``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
FOLDERS = ("client", "server", "graph_opt", "benchmarks")


def read_version() -> str:
    text = (ROOT / "client" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    assert match, "client/version.py names no version"
    return match.group(1)


def packages() -> Dict[str, str]:
    """Every package, as the import name and its folder relative to the root."""
    found = {}
    for folder in FOLDERS:
        found["bert_serving." + folder] = folder
        for name in find_packages(str(ROOT / folder)):
            found["bert_serving.%s.%s" % (folder, name)] = folder + "/" + name.replace(".", "/")
    return found


# Python 3.7 is there for TensorFlow 1.15; the pins are the last releases with wheels for it.
INSTALL: List[str] = [
    "numpy>=1.17",
    "protobuf>=3.19,<3.21; python_version < '3.8'",
    "protobuf>=3.19; python_version >= '3.8'",
    "pyzmq>=25",
    "rich>=13",
    "termcolor>=2.1",
    "tokenizers==0.20.3; python_version < '3.8'",
    "tokenizers>=0.20; python_version >= '3.8'",
    "safetensors==0.4.5; python_version < '3.8'",
    "safetensors>=0.4.5; python_version >= '3.8'",
    "huggingface_hub>=0.16",
    "ml_dtypes>=0.2; python_version >= '3.9'",
    "onnx>=1.14; python_version >= '3.8'",
    "onnxruntime>=1.17; python_version >= '3.8'",
]

# An index may list later releases without saying which Python they need.
HTTP: List[str] = [
    "fastapi>=0.100,<0.104; python_version < '3.8'",
    "fastapi>=0.100; python_version >= '3.8'",
    # The pages of the interactive docs, for machines without internet.
    "fastapi-offline>=1.6,<1.7; python_version < '3.8'",
    "fastapi-offline>=1.7; python_version >= '3.8'",
    # Both halve the time that HTTP takes.
    "httptools>=0.5",
    "uvloop>=0.17,<0.19; python_version < '3.8' and sys_platform != 'win32'",
    "uvloop>=0.17; python_version >= '3.8' and sys_platform != 'win32'",
    "orjson>=3.9,<3.9.8; python_version < '3.8'",
    "orjson>=3.9; python_version >= '3.8'",
    "prometheus_client>=0.17,<0.18; python_version < '3.8'",
    "prometheus_client>=0.17; python_version >= '3.8'",
    "pydantic>=2,<2.6; python_version < '3.8'",
    "pydantic>=2; python_version >= '3.8'",
    "uvicorn>=0.22,<0.23; python_version < '3.8'",
    "uvicorn>=0.22; python_version >= '3.8'",
]

EXTRAS: Dict[str, List[str]] = {
    "dev": HTTP
    + [
        "hypothesis>=6.79",
        "httpx>=0.24,<0.25; python_version < '3.8'",
        "httpx>=0.24; python_version >= '3.8'",
        "matplotlib>=3.5",
        "mypy>=1.8; python_version >= '3.10'",
        "openai>=1.40; python_version >= '3.10'",
        "psutil>=5.9",
        "pyarrow==12.0.1; python_version < '3.8'",
        "pyarrow>=14; python_version >= '3.8'",
        "pytest>=7.4",
        "pytest-timeout>=2.2",
        # A formatter's releases format differently.
        "ruff>=0.17,<0.18; python_version >= '3.10'",
        "schemathesis>=4; python_version >= '3.10'",
        "setuptools>=64",
        # Python 3.7 gets its TensorFlow from the extra of that name.
        "tensorflow-cpu>=2.16; python_version >= '3.10' and platform_machine == 'x86_64'",
        "tensorflow>=2.16; python_version >= '3.10' and platform_machine != 'x86_64'",
        "tqdm>=4.60",
        "wheel",
    ],
    # onnxruntime-gpu isn't here: it must take the place of onnxruntime, which pip can't be told.
    "gpu": ["GPUtil>=1.4; python_version < '3.12'", "nvidia-ml-py>=12"],
    "benchmark": ["matplotlib>=3.5", "tqdm>=4.60"],
    "encode": [
        "pyarrow==12.0.1; python_version < '3.8'",
        "pyarrow>=14; python_version >= '3.8'",
        "tqdm>=4.60",
    ],
    "http": HTTP,
    "tensorflow": [
        "tensorflow-gpu==1.15; python_version < '3.8'",
        # TensorFlow 1.15 can't build some graphs, tf.ones([tf.shape(x)[0]]) for one, with 1.20.
        "numpy<1.20; python_version < '3.8'",
        "tensorflow>=2.16; python_version >= '3.10'",
    ],
}

PACKAGES = packages()

setup(
    name="bert-serving",
    version=read_version(),
    description="Sentence and token embeddings of BERT as a service",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.7",
    packages=sorted(PACKAGES),
    package_dir=PACKAGES,
    package_data={name: ["py.typed", "data/*.json"] for name in PACKAGES},
    install_requires=INSTALL,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "bert-serving-benchmark=bert_serving.benchmarks.cli:main",
            "bert-serving-encode=bert_serving.client.bulk.cli:main",
            "bert-serving-keygen=bert_serving.server.keygen:main",
            "bert-serving-optimize=bert_serving.graph_opt.cli:main",
            "bert-serving-reload=bert_serving.server.cli:reload",
            "bert-serving-start=bert_serving.server.cli:start",
            "bert-serving-terminate=bert_serving.server.cli:terminate",
        ]
    },
)
