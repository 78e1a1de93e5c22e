"""What computes rollouts: the models in this process, or on vLLM's servers."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from warmup_distill.recipe.section import Section, unit

SHAPE = "{name: vllm, student: URL, teacher: URL}"


def address_of(url: str) -> str:
    """The address as it is spoken to: without a slash, or the `/v1` of the API, at its end.

    Raises:
        ValueError: it is none, or holds what nobody should read.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        whole = None
    if not whole:
        raise ValueError("expected an address such as http://127.0.0.1:8000")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "expected an address without a name, a password or a query: it is written into the run "
            "directory. A key goes into an environment variable that `api_key_env` names"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


Address = Annotated[str, AfterValidator(address_of)]


class EngineSection(Section):
    """`engine: transformers` is this process or its workers; else two servers, see docs/vllm.md."""

    name: Literal["transformers", "vllm"] = "transformers"
    """`vllm` needs the extra of that name, and two servers that are running."""
    student: Address | None = None
    """Of the server that holds the student as it is before the warm-up."""
    teacher: Address | None = None
    """Of the server that holds the teacher."""
    student_model: str | None = None
    """Name of the student on its server; found by itself where that serves one model."""
    teacher_model: str | None = None
    """Name of the teacher on its server."""
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)
    """Environment variable that holds the key of both servers, on every machine that asks them."""
    tolerance: float = Field(0.5, gt=0, le=1000, json_schema_extra=unit("nats"))
    """Most that a server's log-probability of a token may be off before anything is computed."""
    concurrency: int = Field(64, ge=1, le=65_536, json_schema_extra=unit("requests"))
    """In flight to each server at one time, of all workers together."""
    timeout: float = Field(600.0, gt=0, le=86_400, json_schema_extra=unit("seconds"))
    """Without an answer, after which a request is sent again; time in the server's queue counts."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value != "transformers":
            raise ValueError(f"expected `transformers`, or servers as `{SHAPE}`")
        return {"name": value}

    @model_validator(mode="after")
    def _servers_for_vllm_alone(self) -> Self:
        given = self.model_fields_set - {"name"}
        if self.name == "transformers" and given:
            raise ValueError(f"{', '.join(sorted(given))}: no effect without `name: vllm`")
        if self.name == "vllm" and not (self.student and self.teacher):
            raise ValueError(f"expected the addresses of both servers: `{SHAPE}`")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, whole: SerializerFunctionWrapHandler) -> Any:
        return self.name if self.name == "transformers" else whole(self)
