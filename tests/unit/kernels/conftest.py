"""The instruction sets that this machine has: a test that takes one runs with each."""

from __future__ import annotations

import pytest

from nomoat.kernels import native


@pytest.fixture(params=native.instruction_sets(), ids=lambda n: native.SETS[n])
def instruction_set(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number
