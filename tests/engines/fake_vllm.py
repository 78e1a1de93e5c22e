"""A server with the part of vLLM's HTTP interface that the engine uses, around a small model.

Its answers are computed in the most naive way, a whole forward pass per token. Where a request
leaves something open, it takes the worst default that a generation configuration could bring.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

WORST = {"temperature": 0.2, "top_k": 1, "top_p": 0.1, "min_p": 0.5, "repetition_penalty": 5.0}


class RefusalError(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeVllm:
    """See the module. What a test changes is public.

    Args:
        model: what is served.
        ends: ids that end a completion unless the request ignores them.
    """

    def __init__(self, model: PreTrainedModel, ends: tuple[int, ...] = ()) -> None:
        self.model, self.ends = model, ends
        self.models: list[dict[str, Any]] = [{"id": "served", "root": "/models/served"}]
        self.context = 128
        self.key: str | None = None
        self.processed = False
        self.honours_bias = True
        self.before: Callable[[dict[str, Any]], None] = lambda body: None
        self.bodies: list[dict[str, Any]] = []
        self.in_flight = self.most_in_flight = 0
        self._lock, self._compute = threading.Lock(), threading.Lock()

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[str]:
        """Its address, until the end of the block."""
        server = _Server(("127.0.0.1", port), _handler(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Any:
        if path == "/version":
            return {"version": "0.0-fake"}
        if self.key is not None and key != f"Bearer {self.key}":
            raise RefusalError(401, f"Unauthorized: {key}")  # some repeat what they were given
        if path == "/v1/models":
            return {"data": [one | {"max_model_len": self.context} for one in self.models]}
        if path != "/v1/completions" or method != "POST":
            raise RefusalError(404, "Not Found")
        with self._lock:
            self.bodies.append(body)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            self.before(body)
            with self._compute:
                return self._complete(body)
        finally:
            with self._lock:
                self.in_flight -= 1

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt, rows = body["prompt"], self.model.config.vocab_size
        bias = {int(token): max(-100.0, min(100.0, b))
                for token, b in (body.get("logit_bias") or {}).items()}  # fmt: skip
        if body["model"] not in [one["id"] for one in self.models]:
            raise RefusalError(404, f"The model `{body['model']}` does not exist.")
        if outside := [token for token in [*bias, *prompt] if token >= rows]:
            raise RefusalError(400, f"Token id {outside[0]} is out of vocabulary")
        if len(prompt) + 1 > self.context:
            raise RefusalError(400, f"The maximum context length is {self.context} tokens.")
        choice = self._draw(body, prompt, bias if self.honours_bias else {})
        if body.get("prompt_logprobs") is not None:
            logp = self._logits(prompt).log_softmax(-1)
            choice["prompt_logprobs"] = [
                None,
                *({str(token): {"logprob": float(logp[i, token]), "rank": 1}}
                  for i, token in enumerate(prompt[1:])),
            ]  # fmt: skip
        return {"model": body["model"], "choices": [choice]}

    def _draw(self, body: dict[str, Any], prompt: list[int], bias: dict[int, float]) -> Any:
        settings = WORST | {k: body[k] for k in WORST if body.get(k) is not None}
        ends = {*(body.get("stop_token_ids") or ()), *(() if body.get("ignore_eos") else self.ends)}
        room = min(body.get("max_tokens", 16), self.context - len(prompt))
        generator = torch.Generator().manual_seed(body.get("seed") or time.monotonic_ns())
        ids: list[int] = []
        values: list[float] = []
        while len(ids) < room and not (ids and ids[-1] in ends):
            raw = self._logits([*prompt, *ids])[-1:]
            logits = raw.clone()
            for token, value in bias.items():
                logits[0, token] += value
            token, processed = _chosen(logits, [*prompt, *ids], settings, generator)
            ids.append(token)
            values.append(float((processed if self.processed else raw).log_softmax(-1)[0, token]))
        choice: dict[str, Any] = {
            "index": 0, "text": "", "finish_reason": "stop" if ids[-1] in ends else "length"
        }  # fmt: skip
        if body.get("return_token_ids"):
            choice["token_ids"] = ids
        if body.get("logprobs") is not None:
            choice["logprobs"] = {"token_logprobs": values}
        return choice

    @torch.no_grad()
    def _logits(self, ids: list[int]) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=torch.tensor([ids])).logits[0].float()
        return logits


def _chosen(
    logits: torch.Tensor, before: list[int], settings: dict[str, float], generator: torch.Generator
) -> tuple[int, torch.Tensor]:
    """A token, and the logits that it was drawn from."""
    steps = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"])])
    greedy = settings["temperature"] == 0
    if not greedy:
        logits = logits / settings["temperature"]
    if settings["top_k"] > 0:
        steps.append(TopKLogitsWarper(int(settings["top_k"])))
    if settings["top_p"] < 1:
        steps.append(TopPLogitsWarper(settings["top_p"]))
    if settings["min_p"] > 0:
        steps.append(MinPLogitsWarper(settings["min_p"]))
    scores = steps(torch.tensor([before]), logits)
    if greedy:
        return int(scores.argmax()), scores
    return int(torch.multinomial(scores.softmax(-1), 1, generator=generator)), scores


class DropError(Exception):
    """Ends a connection without an answer."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a test may leave a request hanging
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What goes wrong is what a test asked for; nothing is printed."""


def _handler(fake: FakeVllm) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET", None)

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            self._answer("POST", json.loads(self.rfile.read(size)))

        def _answer(self, method: str, body: Any) -> None:
            try:
                status, said = 200, fake.answer(method, self.path,
                                                self.headers["Authorization"], body)  # fmt: skip
            except DropError:
                self.close_connection = True
                return
            except RefusalError as error:
                status, said = error.status, {"error": {"message": str(error)}}
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if 300 <= status < 400:
                self.send_header("Location", "/v1/elsewhere")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
