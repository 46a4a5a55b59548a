"""What the bare base does with rows, where nothing can be remembered."""

from __future__ import annotations

from pathlib import Path

from nomoat.core.records import returned
from nomoat.core.store import Store
from nomoat.data.encode import encode_rows
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.rows import Row
from nomoat.judge.measure import Subject, answers, losses
from nomoat.judge.task import prompt_of
from tiny import tiny_base


def test_a_home_that_cannot_be_written_costs_no_measurement(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    (tmp_path / "file").write_text("where a folder is needed")
    homes = [Store(tmp_path / "home"), Store(tmp_path / "file" / "home")]
    rows: list[Row] = [{"prompt": "say it", "completion": "yes"}, {"prompt": "again", "completion": "no"}]
    encoded = encode_rows(rows, base.tokenizer, base.template, EncodeOptions(max_seq_len=128)).rows
    prompts = [prompt_of(row) for row in encoded]
    subjects = [Subject(base, (), "before", store) for store in homes]
    found = [
        (
            returned(losses(subject, encoded, "loss")),
            returned(answers(subject, prompts, max_tokens=4, max_batch=2)),
        )
        for subject in subjects
    ]
    assert found[0] == found[1]
    assert list((homes[0].home / "cache").iterdir()) and (tmp_path / "file").is_file()
