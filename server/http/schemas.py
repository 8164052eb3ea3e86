"""What requests and answers look like: checked on the way in, documented in ``/openapi.json``.

The ``description`` of a field says what it must be, in words that complete "must be ...": messages
of errors use it. Fields that nobody knows are ignored, as by the servers whose APIs these are.

Answers are not checked: they are put together by our own code, and what is checked here is that
the documentation is true, by tests.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import Annotated, Literal

from bert_serving.server.http import inputs

__all__ = [
    "EmbedRequest",
    "EmbeddingsAnswer",
    "EmbeddingsRequest",
    "EncodeAnswer",
    "EncodeRequest",
    "InfoAnswer",
    "LegacyError",
    "ModelAnswer",
    "ModelsAnswer",
    "OpenAiError",
    "StateAnswer",
    "TeiError",
    "TokenAnswer",
    "TokenizeRequest",
]

#: Vectors, or token vectors, as they are in JSON.
Vectors = Union[List[List[float]], List[List[List[float]]]]


Check = Callable[[Any, str, inputs.Served], Any]


def _by(check: Check) -> AfterValidator:
    """Has ``check`` check a field; what is served is the context of the validation."""

    def validate(value: Any, info: Any) -> Any:
        return check(value, info.field_name, info.context)

    return AfterValidator(validate)


def _whole(value: Any) -> Any:
    number = inputs.whole(value)
    return value if number is None else number


TextsOrTokens = Annotated[Any, _by(inputs.texts_or_tokens)]
Texts = Annotated[Any, _by(inputs.text_or_texts)]
#: None, or a whole number from 1; pydantic's strict one doesn't take 1.0 for such, JSON does.
Dimensions = Annotated[Optional[Annotated[int, Field(ge=1)]], BeforeValidator(_whole)]
IdsOrTexts = Annotated[Any, _by(inputs.ids_or_texts)]
Echoed = Annotated[Any, _by(inputs.echoed)]
#: Anything, which isn't kept.
Ignored = Annotated[Any, AfterValidator(lambda value: None)]
#: What Python takes for true, as 1.10 did.
Truth = Annotated[bool, BeforeValidator(bool)]


class Body(BaseModel):
    """Of a request."""

    model_config = ConfigDict(strict=True, extra="ignore")


class EncodeRequest(Body):
    """1.10's."""

    id: Echoed = Field(None, description="anything; it comes back in the answer")
    texts: TextsOrTokens = Field(
        ..., description="a list of strings, or of lists of tokens with is_tokenized"
    )
    is_tokenized: Truth = Field(False, description="true if texts are lists of tokens, else false")


class EncodeAnswer(BaseModel):
    """1.10's: ``result`` has a vector for each text, or a list of vectors if the server doesn't
    pool.
    """

    id: Any
    result: Vectors
    status: Literal[200]


class LegacyError(BaseModel):
    """1.10's form of an error."""

    description: str
    type: str
    status: int


class EmbeddingsRequest(Body):
    """OpenAI's."""

    model: str = Field(..., description="the id of the served model, its last part, or default")
    input: IdsOrTexts = Field(
        ...,
        description="a string, a list of strings, a list of token ids, or a list of such lists",
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description='"float" or "base64" (float32, little-endian)'
    )
    dimensions: Dimensions = Field(
        None, description="a whole number from 1 to the model's dimension"
    )
    user: Ignored = Field(None, description="anything; it is ignored")


class EmbeddingAnswer(BaseModel):
    """``embedding`` is a string with ``encoding_format`` "base64"."""

    object: Literal["embedding"]
    index: int
    embedding: Union[List[float], str]


class UsageAnswer(BaseModel):
    """Tokens that were computed, special ones included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """OpenAI's."""

    object: Literal["list"]
    data: List[EmbeddingAnswer]
    model: str
    usage: UsageAnswer


class ModelAnswer(BaseModel):
    """OpenAI's description of a model; ``created`` is when the server started, in Unix seconds."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsAnswer(BaseModel):
    """OpenAI's."""

    object: Literal["list"]
    data: List[ModelAnswer]


class OpenAiErrorDetail(BaseModel):
    """``param`` is the field that is wrong."""

    message: str
    type: str
    param: Optional[str]
    code: Optional[str]


class OpenAiError(BaseModel):
    """OpenAI's form of an error."""

    error: OpenAiErrorDetail


class EmbedRequest(Body):
    """That of text-embeddings-inference."""

    inputs: Texts = Field(..., description="a string or a list of strings")
    normalize: Optional[bool] = Field(True, description="true for vectors of unit length, or false")
    truncate: Optional[bool] = Field(
        False, description="true to cut texts that are too long; with false they are an error"
    )
    truncation_direction: Literal["Right", "Left", "right", "left"] = Field(
        "Right", description='"Right" or "Left", the side on which a long text is cut'
    )
    prompt_name: None = Field(None, description="null: the served model has no prompts")
    dimensions: Dimensions = Field(
        None, description="a whole number from 1 to the model's dimension"
    )


class TokenizeRequest(Body):
    """That of text-embeddings-inference."""

    inputs: Texts = Field(..., description="a string or a list of strings")
    add_special_tokens: bool = Field(True, description="true or false")
    prompt_name: None = Field(None, description="null: the served model has no prompts")


class TokenAnswer(BaseModel):
    """``start`` and ``stop`` count characters of the text; special tokens have none."""

    id: int
    text: str
    special: bool
    start: Optional[int]
    stop: Optional[int]


class InfoAnswer(BaseModel):
    """That of text-embeddings-inference; ``null`` stands for what this server has not."""

    # Or older releases warn of the fields' names.
    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_sha: Optional[str]
    model_dtype: str
    model_type: Dict[str, Dict[str, str]]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: Optional[int]
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: Optional[str]
    docker_label: Optional[str]


class TeiError(BaseModel):
    """That of text-embeddings-inference."""

    error: str
    error_type: Literal["Validation", "Tokenizer", "Backend", "Overloaded", "Unhealthy"]


class StateAnswer(BaseModel):
    """``reason`` says why it is not "ok"."""

    status: Literal["ok", "unavailable"]
    reason: Optional[str] = None
