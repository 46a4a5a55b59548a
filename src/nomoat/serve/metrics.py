"""Counts and times for Prometheus, in a registry of the server's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nomoat.engine.service import Service

_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """``nomoat_*``: requests by endpoint and status, tokens, first-token times, and what the engine says of itself."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("nomoat_requests", "HTTP requests", ["path", "status"], registry=self.registry)
        self.first_token_s = Histogram(
            "nomoat_first_token_seconds", "From the request to its first token", buckets=_FIRST_TOKEN_S,
            registry=self.registry,
        )  # fmt: skip
        stats = {
            "queued": ("requests that wait for a place in the batch", lambda: service.stats().queued),
            "running": ("requests that are being answered", lambda: service.stats().running),
            "cache_bytes": ("bytes of keys and values", lambda: service.stats().cache_bytes),
            "prompt_tokens": ("prompt tokens read since the start", lambda: service.stats().prompt_tokens),
            "generated_tokens": ("tokens drawn since the start", lambda: service.stats().generated_tokens),
            "prefix_hits": (
                "prompt tokens that did not have to be read, for they were read before",
                lambda: service.stats().prefix_hits,
            ),
        }
        for name, (what, read) in stats.items():
            Gauge(f"nomoat_{name}", what, registry=self.registry).set_function(read)

    def text(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        return generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8"
