"""The options of an engine that serves: flags are drawn from here, without the engine itself."""

from __future__ import annotations

import dataclasses

from nomoat.core.options import option


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How many run together, how many wait, and how much is remembered."""

    max_batch: int = option(16, "requests that run together; the others wait")
    queue: int = option(256, "requests that may wait; one more is told to come again")
    max_context: int | None = option(None, "most tokens of a request, prompt and answer; default is the base's own")
    cache_mb: int = option(1024, "memory for keys and values, in MiB, of running requests and of prompts read before")
    kv_int8: bool = option(False, "keep keys and values in 8 bits: a quarter of the memory, not quite the same numbers")
    round_prompts: bool = option(
        False,
        "read prompts with numbers rounded, where the processor has AMX or AVX-512-VNNI: up to twice as fast, not "
        "quite the same. What is written, and log-probabilities of prompts, stay exact",
    )
    speculate: bool = option(True, "guess words that stood in the text before, where that is faster; same answers")
    prefix_cache: bool = option(True, "read the beginning that requests share once")
