from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.core.errors import BadHeader, NotFound
from nomoat.formats.hf import is_hf_folder, read_config


def test_the_configuration_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')
    assert is_hf_folder(tmp_path)
    assert read_config(tmp_path) == {"model_type": "llama", "hidden_size": 8}


def test_a_folder_without_one_is_not_a_model(tmp_path: Path) -> None:
    assert not is_hf_folder(tmp_path)
    assert not is_hf_folder(tmp_path / "absent")
    with pytest.raises(NotFound, match=r"config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"a": 1, "a": 2}', b'{"a":' + b"[" * 5000, b"null"])
def test_a_damaged_one_is_refused_with_its_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadHeader, match=r"config\.json: not"):
        read_config(tmp_path)


def test_a_huge_one_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(BadHeader, match="larger than"):
        read_config(tmp_path)
