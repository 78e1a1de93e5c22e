"""One server over HTTP: JSON there and back, a few tries, and words for what goes wrong."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import reading, reason
from warmup_distill.foreign.showing import clean

if TYPE_CHECKING:
    import httpx

Role = Literal["student", "teacher", "model"]
"""Whose server it is: of a pair, or of a model by itself."""
Named = Literal["url", "model", "key", "timeout", "tolerance", "instead"]

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another try may go better."""
MOST_SAID = 300
"""Characters of a server's own words that a message repeats."""
GOES_ON = "What is computed is kept: the same command goes on from there."


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a model is served. It can be sent to another process; the key is not in it."""

    role: Role
    url: str
    expected: str
    """The model that should be there: its folder, or its name on the hub."""
    dtype: str
    """That it should be in."""
    head: int
    """Rows of that model's head, padding included."""
    name: str | None
    """Of the model on the server; None until somebody has looked."""
    timeout: float
    concurrency: int
    key_env: str | None = None
    names: Mapping[Named, str]
    """What people call these settings where they give them, and what they can do instead."""

    def __str__(self) -> str:
        return f"the {self.role}'s server at {self.url}"

    @property
    def command(self) -> str:
        """What starts such a server."""
        return (
            f"vllm serve {self.expected} --dtype {self.dtype} --generation-config vllm "
            "--logprobs-mode raw_logprobs --no-enable-prefix-caching"
        )


def names_in_recipe(role: Role) -> dict[Named, str]:
    """The settings of one of the two servers of rollouts."""
    section = "rollouts.engine"
    return {
        "url": f"{section}.{role}",
        "model": f"{section}.{role}_model",
        "key": f"{section}.api_key_env",
        "timeout": f"{section}.timeout",
        "tolerance": f"{section}.tolerance",
        "instead": f"take `{section}: transformers`",
    }


NAMES_OF_OPTIONS: Mapping[Named, str] = {
    "url": "--server",
    "model": "--server-model",
    "key": "--api-key-env",
    "timeout": "the longest that is waited",
    "tolerance": "the most that is allowed",
    "instead": "leave out --server, and it is evaluated in process",
}


def key_of(variable: str | None, named: str = "rollouts.engine.api_key_env") -> str | None:
    """The key that a variable in the environment of this process holds; None if none is named.

    Args:
        named: the setting that names the variable.

    Raises:
        RunError: it holds none.
    """
    if variable is None:
        return None
    found = os.environ.get(variable, "").strip()
    if not (found and found.isascii() and found.isprintable()):
        raise RunError(
            f"{named} names {variable}, which holds no key here. Export it, on every machine that "
            "has workers, or leave it out."
        )
    return found


def require_httpx() -> None:
    """Raise a RunError if httpx is not installed."""
    if find_spec("httpx") is None:
        raise RunError(
            "asking a server of vLLM needs httpx, which is not installed. Install it with: "
            "pip install 'warmup-distill[vllm]'"
        )


class RefusalError(RunError):
    """A server understands a request and does not do it."""


@dataclass(frozen=True)
class Wire:
    """A connection to a server, with a bound on the requests in flight."""

    address: Address
    client: "httpx.AsyncClient"
    room: asyncio.Semaphore
    answered: set[str] = field(default_factory=set)
    """Paths that it has answered, of which a message can tell."""

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON at a path; errors as of `post`."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a server answers to some JSON.

        Raises:
            RefusalError: it says no (4xx).
            RunError: it cannot be reached, fails or takes too long, again and again; or its answer
                is no JSON.
        """
        return await self._ask("POST", path, body)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        import httpx

        for pause in (*PAUSES, None):
            try:
                async with self.room:
                    response = await self.client.request(method, path, json=body)
            except httpx.TransportError as error:
                why = _in_words(error, self.address)
            else:
                if response.status_code not in PASSING:
                    return self._read(path, response)
                why = f"it answers {response.status_code}: {self._said(response)}"
            if pause is None:
                break
            await asyncio.sleep(pause)
        raise RunError(self._lost(path, why))

    def _lost(self, path: str, why: str) -> str:
        address, tries = self.address, len(PAUSES) + 1
        failed = f"{address} failed {tries} times to answer {path}: {why}."
        if not self.answered:
            return (
                f"{failed} Start it (`{address.command}`), or mend {address.names['url']}. "
                f"{GOES_ON}"
            )
        if path not in self.answered:
            return (
                f"{failed} It did answer {min(self.answered)}, so it was up and its engine died of "
                "the first request: its own log says why. vLLM does not run every model on every "
                f"device: start it in another way, or {address.names['instead']}. "
                f"{GOES_ON}"
            )
        return f"{failed} It has answered before: look at its log and start it again. {GOES_ON}"

    def _read(self, path: str, response: "httpx.Response") -> dict[str, Any]:
        if response.status_code != 200:
            raise self._refusal(path, response)
        with reading(RunError, f"{self.address}: expected JSON from {path}"):
            found = response.json()
            if not isinstance(found, dict):
                raise ValueError(f"got {type(found).__name__}")
        self.answered.add(path)
        return found

    def _refusal(self, path: str, response: "httpx.Response") -> RunError:
        status, said, address = response.status_code, self._said(response), self.address
        if status in (401, 403):
            given = (
                f"the key in {address.key_env} is not one that it takes" if address.key_env else
                "it wants a key: put it into an environment variable, and that variable's name "
                f"into {address.names['key']}"
            )  # fmt: skip
            return RunError(f"{address} turns us away ({status}): {given}.")
        if status == 404 and "model" not in said:
            return RunError(
                f"{address} knows no {path} (404: {said}). Mend {address.names['url']}: it "
                "is the address before `/v1`, of a server with vLLM's OpenAI-compatible API."
            )
        if status == 404:
            return RunError(
                f"{address} does not serve the model that it was asked for (404: {said}). Mend "
                f"{address.names['model']}, or start it: `{address.command}`"
            )
        if 300 <= status < 400:
            return RunError(
                f"{address} sends us elsewhere ({status}), where a key would go too. Put the "
                f"address that it means into {address.names['url']}."
            )
        return RefusalError(
            f"{address} refuses a request to {path} ({status}): {said}. Start it so that it takes "
            f"such requests (`{address.command}`), or ask less of it in the recipe. {GOES_ON}"
        )

    def _said(self, response: "httpx.Response") -> str:
        """A server's own words, without the key that some repeat in them."""
        text = response.text
        try:
            error = response.json().get("error")
            text = error["message"] if isinstance(error, dict) else error or text
        except (ValueError, AttributeError, KeyError):
            pass  # then its words are the whole text
        key = key_of(self.address.key_env, self.address.names["key"])
        text = str(text).replace(key, "…") if key else str(text)
        return " ".join(clean(text).split())[:MOST_SAID].rstrip(".") or "no words"


def _in_words(error: "httpx.TransportError", address: Address) -> str:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {address.timeout:g} s ({address.names['timeout']})"
    if isinstance(error, httpx.ConnectError):
        return f"nothing listens there ({reason(error)})"
    return f"the connection was lost ({reason(error)})"


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Wire]:
    """A connection to a server until the end of the block.

    Nothing in the environment sends requests elsewhere: no proxy, no password file.
    """
    require_httpx()
    import httpx

    key = key_of(address.key_env, address.names["key"])
    # The semaphore is the bound: the client's own queue is slow where a thousand wait.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=address.concurrency)
    async with httpx.AsyncClient(
        base_url=address.url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(address.timeout),
        limits=limits,
        trust_env=False,
        verify=ssl.create_default_context(),
    ) as client:
        yield Wire(address, client, asyncio.Semaphore(address.concurrency))
