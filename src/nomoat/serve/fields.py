"""Fields that several requests share, under OpenAI's names, with vLLM's extras (``top_k``, ``min_p`` ...)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nomoat.engine.sampling import Sampling
from nomoat.serve.errors import RequestError

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20

Text = Annotated[str, Field(max_length=4 << 20)]


class Fields(BaseModel):
    """A part of a request. Fields that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class StreamOptions(Fields):
    include_usage: bool = False


class LoraScale(Fields):
    """llama-server's way to say a stack: the adapter's number in ``/lora-adapters`` and its weight."""

    id: Annotated[int, Field(ge=0)]
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0


class StructuredOutputs(Fields):
    """vLLM's field for constraints that OpenAI's ``response_format`` cannot say. One of them."""

    json_schema: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    regex: Text | None = None
    choice: list[Text] | None = None


class SamplingFields(Fields):
    """How to draw, and how many times."""

    model: str | None = None
    lora: Annotated[list[LoraScale], Field(max_length=256)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = 1
    best_of: int | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    top_k: int | None = 0
    min_p: Annotated[float, Field(ge=0, le=1)] | None = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=1024)] | None = None
    structured_outputs: StructuredOutputs | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = None

    @property
    def choices(self) -> int:
        """How many answers. Raises ``RequestError`` for a ``best_of`` that would draw more than it shows."""
        wanted = self.n or 1
        if self.best_of not in (None, wanted):
            raise RequestError("'best_of' must equal 'n'", param="best_of", code="unsupported_parameter")
        return wanted

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def sampling_of(fields: SamplingFields, max_tokens: int, *, choice: int = 0) -> Sampling:
    """The engine's options for one of the choices; each has a seed of its own, and all follow from ``seed``."""
    stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
    return Sampling(
        temperature=_given(fields.temperature, 1.0),
        top_k=max(fields.top_k or 0, 0),  # clients of vLLM say -1 for all
        top_p=_given(fields.top_p, 1.0),
        min_p=fields.min_p or 0.0,
        repetition_penalty=_given(fields.repetition_penalty, 1.0),
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        seed=None if fields.seed is None else (fields.seed + choice) % 2**63,
        stop=tuple(word for word in stop if word),
        max_tokens=max_tokens,
    )


def bias_of(fields: SamplingFields, vocab_size: int) -> dict[int, float]:
    """``logit_bias`` by token id. Raises ``RequestError`` for what is no token or no bias."""
    bias: dict[int, float] = {}
    for key, value in (fields.logit_bias or {}).items():
        if not key.isascii() or not key.isdigit() or not int(key) < vocab_size:
            raise RequestError(f"logit_bias: {key[:40]!r} is not a token id below {vocab_size}", param="logit_bias")
        if not -100 <= value <= 100:
            raise RequestError("logit_bias: a bias is between -100 and 100", param="logit_bias")
        bias[int(key)] = value
    return bias


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
