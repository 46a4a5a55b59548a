"""Rewards: of many conversations as of each alone, and only where one head is worn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nomoat.core.errors import UnsupportedType, UsageError
from nomoat.core.store import Store
from nomoat.engine.reward import conversation_ids, reward_adapter, rewards
from nomoat.export.job import export
from nomoat.export.options import ExportOptions
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.load import Base
from nomoat.move.job import move
from nomoat.move.options import MoveOptions
from nomoat.stack.job import open_parts
from nomoat.stack.merge import merge
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"))


def model(base: Base, name: str = "rm", *, head: bool = True) -> Adapter:
    return base.new_adapter(AdapterConfig(rank=2, reward_head=head), seed=1, name=name)


def test_a_reward_is_the_head_on_the_last_hidden_state_whoever_shares_the_pass(base: Base) -> None:
    adapter = model(base)
    asked = [{"role": "user", "content": "why?"}]
    rows = [conversation_ids(base, asked, answer) for answer in ("because", "no", "since it is so")]
    together = rewards(base, rows, ((adapter, 1.0),))
    for row, found in zip(rows, together):
        assert adapter.score is not None
        with torch.no_grad():
            hidden = base.decoder(torch.tensor(row), Layout([len(row)]))  # a fresh adapter changes nothing
        assert found == pytest.approx((hidden[-1] @ adapter.score[0]).item(), abs=1e-5)


def test_what_the_user_says_in_a_row_is_one_message(base: Base) -> None:
    apart = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    joined = [{"role": "user", "content": "one\n\ntwo"}]
    assert conversation_ids(base, apart, "x") == conversation_ids(base, joined, "x")


def test_no_head_and_two_heads_are_refused_in_words(base: Base) -> None:
    with pytest.raises(UsageError, match="reward head"):
        rewards(base, [[1, 2]], ((model(base, head=False), 1.0),))
    assert reward_adapter(((model(base, head=False), 1.0),)) is None
    with pytest.raises(UsageError, match="one and two both bring"):
        reward_adapter(((model(base, "one"), 1.0), (model(base, "two"), 1.0)))


def test_work_that_would_lose_the_head_is_refused_before_it_begins(own_home: Path) -> None:
    store = Store(own_home)
    here = tiny_base(store.path("bases", "tiny"))
    with store.writing("adapters", "rm") as folder:
        save_adapter(model(here), folder)
    for work in (
        lambda: open_parts(store, ["tiny", "rm"]),
        lambda: next(merge("tiny+rm", store, name="x")),
        lambda: next(export(ExportOptions(model="tiny+rm", to="peft", name="x"), store)),
        lambda: next(move(MoveOptions(stack="tiny+rm", to="tiny", name="x"), store)),
    ):
        with pytest.raises(UsageError, match="rm is a reward model"):
            work()


def test_a_conversation_longer_than_the_context_is_refused(base: Base) -> None:
    with pytest.raises(UsageError, match="conversation 1 has 600"):
        rewards(base, [[1], [1] * 600], ((model(base), 1.0),))


def test_a_head_of_several_labels_is_no_reward_model(base: Base, tmp_path: Path) -> None:
    adapter = model(base)
    adapter.score = torch.nn.Parameter(torch.zeros(3, base.decoder.config.d_model))
    save_adapter(adapter, tmp_path)
    with pytest.raises(UnsupportedType, match="a reward model's is"):
        base.load_adapter(tmp_path)
