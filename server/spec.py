"""What the server's processes are told when they start: plain values that travel as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, List, Optional, Tuple

from bert_serving.server.tokenization import TokenizerSettings

__all__ = [
    "CurveSpec",
    "EngineSpec",
    "Endpoints",
    "HttpSpec",
    "PoolingSpec",
    "SecuritySpec",
    "ServiceSpec",
]


@dataclass(frozen=True)
class Endpoints:
    """ZeroMQ addresses of the server's own sockets; the first named side binds."""

    control: str  # supervisor <-> everybody
    workers: str  # ventilator <-> workers
    results: str  # sink <- workers, ventilator
    events: str  # ventilator <- sink

    @classmethod
    def inside(cls, directory: str) -> "Endpoints":
        """Sockets in a directory that only this user may enter."""
        names = ("control", "workers", "results", "events")
        return cls(*("ipc://%s/%s" % (directory, name) for name in names))


@dataclass(frozen=True)
class EngineSpec:
    """What a worker computes, and on what."""

    name: str  # onnxruntime | tensorflow | echo
    graph: Optional[str]  # path of the optimized graph; echo needs none
    dimension: int
    per_token: bool  # a vector for every token, not for every text
    threads: int
    gpu_memory_fraction: float
    xla: bool = False  # compile the graph, where the engine can
    streams: int = 1  # batches that are computed at a time, each by its share of the threads
    split_tokens: int = 0  # with fewer than these in each stream, all threads share a batch
    layers_order: Optional[Dict[str, Any]] = None  # to make the graph of every layer; None: never
    hidden_size: int = 0  # of a layer; only requests that ask for another pooling need it


@dataclass(frozen=True)
class PoolingSpec:
    """The server's own pooling, and what requests may ask for in its place."""

    strategy: str
    layers: Tuple[int, ...]  # counted from 0, or back from -1
    normalize: bool
    fixed: bool  # requests may ask for no other
    num_layers: int
    has_pooler: bool


@dataclass(frozen=True)
class HttpSpec:
    """What is served over HTTP, and within which limits."""

    port: int
    max_connect: int  # requests at a time
    cors: str  # origins, separated by commas; *: all
    max_body: int  # bytes of a request's body, decompressed
    max_rows: int  # texts of a request
    timeout: float  # seconds for a request
    api_keys: Tuple[str, ...] = field(default=(), repr=False)  # one is to be shown; (): none is
    tls_cert: Optional[str] = None  # path of the certificate and what stands between it and a root
    tls_key: Optional[str] = None


@dataclass(frozen=True)
class CurveSpec:
    """The keys of ZeroMQ's two ports, in Z85."""

    clients: str  # path of the folder of the clients' public keys
    public: str
    secret: str = field(repr=False)
    own_public: str  # the pair of the HTTP process, which is a client; made at each start
    own_secret: str = field(repr=False)


@dataclass(frozen=True)
class SecuritySpec:
    """Who may do what over ZeroMQ."""

    max_message: int = 256_000_000  # bytes of the largest frame that is read
    admin_token: Optional[str] = field(default=None, repr=False)
    curve: Optional[CurveSpec] = None


@dataclass(frozen=True)
class ServiceSpec:
    """A service as it is going to run: every default resolved."""

    host: str
    port: int
    port_out: int
    num_worker: int
    devices: Tuple[int, ...]  # GPU of each worker, -1: CPU
    credits: int  # batches a worker holds, the one that it computes included
    max_batch_size: int
    token_budget: int
    padding_weight: float  # what a token of padding costs, a real one being 1
    priority_batch_size: int
    max_queue_rows: int  # of all requests that are accepted and not computed; 0: any number
    max_queue_bytes: int  # of memory that these take; 0: any number
    show_tokens: bool
    vocabulary: Optional[str]  # path of vocab.txt; None: the echo engine's own
    tokenizer: TokenizerSettings
    fixed_length: bool  # token-level results are always padded to the longest sequence allowed
    engine: EngineSpec
    pooling: PoolingSpec
    model: str
    config: Dict[str, Any]  # what SHOW_CONFIG answers of the flags
    verbose: bool
    use_color: bool
    drain_timeout: float  # seconds for what was accepted when the service is to stop
    model_fingerprint: str = ""  # of all that decides the vectors; "": it isn't known
    generation: int = 1  # how often the model was loaded: once at the start, and by reloading
    http: Optional[HttpSpec] = None
    security: SecuritySpec = SecuritySpec()
    max_reply_bytes: int = 0  # of replies that are made or wait to be sent; 0: any number
    max_client_share: float = 1.0  # of each of these bounds, what one client may take
    worker_timeout: float = 60.0  # seconds that a worker may take for a batch at least; 0: any
    request_timeout: float = 0.0  # seconds for requests that name none; 0: as long as it takes

    def for_role(self, role: str) -> "ServiceSpec":
        """What a process of that role has to know: no secret that it doesn't need."""
        if role != "worker":
            return self
        http = None if self.http is None else replace(self.http, api_keys=())
        return replace(self, http=http, security=SecuritySpec())

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ServiceSpec":
        values = json.loads(text)
        values["tokenizer"] = TokenizerSettings(**values["tokenizer"])
        values["engine"] = EngineSpec(**values["engine"])
        layers = tuple(values["pooling"]["layers"])
        values["pooling"] = PoolingSpec(**dict(values["pooling"], layers=layers))
        values["devices"] = tuple(values["devices"])
        if values["http"] is not None:
            keys = tuple(values["http"]["api_keys"])
            values["http"] = HttpSpec(**dict(values["http"], api_keys=keys))
        security = values["security"]
        if security["curve"] is not None:
            security["curve"] = CurveSpec(**security["curve"])
        values["security"] = SecuritySpec(**security)
        return cls(**values)

    @property
    def labels(self) -> List[str]:
        """Names of the workers' devices, for people."""
        return ["CPU" if gpu < 0 else "GPU %d" % gpu for gpu in self.devices]
