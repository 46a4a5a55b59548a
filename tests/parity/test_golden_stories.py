"""The whole stack on one real model: decoder, cache, sampling, tokenizer and text streaming give the golden story."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nomoat.engine.generate import Engine, Request
from nomoat.engine.sampling import Sampling
from nomoat.formats.llama2c import read_model, read_tokenizer
from nomoat.formats.weights import Bytes, Floats
from nomoat.model.build import Builder
from nomoat.model.fingerprint import fingerprint_of
from nomoat.model.hf_config import config_from_hf
from nomoat.model.load import Base
from nomoat.model.template import default_template
from nomoat.model.tokenizer import from_pieces

STORIES = Path(__file__).parents[1] / "golden" / "stories260k"


class InMemory:
    """Float32 arrays as the ``Weights`` that a builder takes from."""

    path = STORIES / "stories260K.bin"

    def __init__(self, arrays: dict[str, Floats]) -> None:
        self._arrays = arrays

    def names(self) -> list[str]:
        return list(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._arrays[name].shape

    def type(self, name: str) -> str:
        return "F32"

    def data(self, name: str) -> Bytes:
        array = np.ascontiguousarray(self._arrays[name])
        return array.reshape(1 if array.ndim == 1 else array.shape[0], -1).view(np.uint8)


def stories() -> Base:
    raw, arrays = read_model(STORIES / "stories260K.bin")
    config = config_from_hf(raw, source="stories260K.bin")
    decoder = Builder(InMemory(arrays), config, lambda name: name, pairs=False, norm_offset=0.0).decoder()
    words = from_pieces(*read_tokenizer(STORIES / "tok512.bin"), "tok512.bin")
    return Base("stories", STORIES, decoder, words, default_template(words), fingerprint_of(decoder), "MIT")


def test_greedy_generation_tells_the_golden_story() -> None:
    base = stories()
    assert base.tokenizer.bos_id is not None
    golden = (STORIES / "greedy.txt").read_text("utf-8").rstrip("\n")
    request = Request([base.tokenizer.bos_id], Sampling(max_tokens=260))
    told = Engine(base).complete([request])[0].text
    assert told.strip().startswith(golden.strip())
