"""Requests counted by endpoint and status as they end."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nomoat.serve.metrics import Metrics

KNOWN = frozenset(
    (
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/models", "/tokenize",
        "/detokenize", "/health", "/metrics", "/lora-adapters", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
        "/api/chat", "/api/generate", "/api/tags", "/api/ps", "/api/show", "/api/version", "/",
    )
)  # fmt: skip


class Counted:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A label for every path that somebody makes up would fill the memory.
        path = scope["path"] if scope["path"] in KNOWN else "other"

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)
