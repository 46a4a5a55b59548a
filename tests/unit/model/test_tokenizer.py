from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_gguf
from chat_templates import SPECIALS
from nomoat.core.errors import DataError, FormatError, UnsupportedType
from nomoat.formats.llama2c import read_tokenizer
from nomoat.model import tokenizer
from nomoat.model.tokenizer import Tokenizer
from text_lines import lines

STORIES = Path(__file__).parents[2] / "golden" / "stories260k" / "tok512.bin"
KEYS = tiny_gguf.byte_level_keys(lines(800, seed=1), "gpt-2", size=800)
BYTES = tokenizer.from_metadata(KEYS, "test", None)
PIECES = tokenizer.from_pieces(*read_tokenizer(STORIES), "test")


def changed(**keys: Any) -> dict[str, Any]:
    return KEYS | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize("words", [BYTES, PIECES], ids=["byte-level", "sentence-piece"])
def test_decoding_gives_the_text_back(words: Tokenizer) -> None:
    for line in lines(400, seed=9):
        if "▁" not in line or words is BYTES:
            assert words.decode(words.encode(line), skip_specials=False) == line


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_decoding_gives_any_text_back(text: str) -> None:
    assert BYTES.decode(BYTES.encode(text, specials=False)) == text


def test_specials_are_tokens_or_plain_text_as_asked() -> None:
    text = "a<|im_end|>b"
    assert BYTES.specials["<|im_end|>"] in BYTES.encode(text)
    plain = BYTES.encode(text, specials=False)
    assert not set(plain) & set(BYTES.specials.values())
    assert BYTES.decode(plain) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*tiny_gguf.SPECIALS, "<s>", "</s>", "<unk>", "<|", "|>", " ", "x"])).map("".join))
def test_plain_text_never_holds_a_control_token(text: str) -> None:
    for words in (BYTES, PIECES):
        assert set(words.encode(text, specials=False)).isdisjoint(words.specials.values())


def test_a_word_that_is_itself_a_control_token_is_spelled_out() -> None:
    keys = changed(pre="llama-bpe")  # whole words skip the merges in this kind
    keys["tokenizer.ggml.tokens"] = [*KEYS["tokenizer.ggml.tokens"], "hello"]
    keys["tokenizer.ggml.token_type"] = [*KEYS["tokenizer.ggml.token_type"], 3]
    words = tokenizer.from_metadata(keys, "test", None)
    assert words.encode("hello") == [words.specials["hello"]]
    plain = words.encode("hello", specials=False)
    assert words.specials["hello"] not in plain
    assert words.decode(plain) == "hello"


def test_user_defined_tokens_are_found_either_way() -> None:
    keys = dict(KEYS)
    keys["tokenizer.ggml.tokens"] = [*KEYS["tokenizer.ggml.tokens"], "<tool_call>"]
    keys["tokenizer.ggml.token_type"] = [*KEYS["tokenizer.ggml.token_type"], 4]
    words = tokenizer.from_metadata(keys, "test", None)
    last = len(keys["tokenizer.ggml.tokens"]) - 1
    assert last in words.encode("x<tool_call>y", specials=False)
    assert last not in words.specials.values()
    assert words.decode([last]) == "<tool_call>"


def test_streamed_bytes_join_to_the_text() -> None:
    ids = BYTES.encode("über 🦙 中文")
    assert b"".join(map(BYTES.token_text, ids)).decode() == "über 🦙 中文"
    assert BYTES.token_text(-1) == BYTES.token_text(10**6) == b""


def test_spans_are_places_in_the_text() -> None:
    text = "Hello wörld 🦙\n<|im_end|>x"
    ids, spans = BYTES.encode_spans(text)
    at = ids.index(BYTES.specials["<|im_end|>"])
    assert text[slice(*spans[at])] == "<|im_end|>"
    covered = {i for start, end in spans for i in range(start, end)}
    assert covered == set(range(len(text)))


def test_half_a_surrogate_is_refused() -> None:
    with pytest.raises(DataError, match="character 1 of the text"):
        BYTES.encode("a\ud800")


def test_turn_ends_are_the_named_ones_and_the_well_known_ones() -> None:
    keys = dict(KEYS)
    extra = ["<end_of_turn>", "<|end|>", "</s>"]
    keys["tokenizer.ggml.tokens"] = [*KEYS["tokenizer.ggml.tokens"], *extra]
    keys["tokenizer.ggml.token_type"] = [*KEYS["tokenizer.ggml.token_type"], 4, 1, 4]
    keys["tokenizer.ggml.eot_token_id"] = 1
    words = tokenizer.from_metadata(keys, "test", None)
    n = len(KEYS["tokenizer.ggml.tokens"])
    # "</s>" is a tag of HTML in some vocabularies, and ends nothing unless the file says so
    assert words.eos_ids == {0, 1, 2, n, n + 1}
    assert words.specials["<end_of_turn>"] == n


def test_in_the_harmony_format_end_does_not_end_the_turn() -> None:
    control = {"<|end|>": 5, "<|return|>": 6, "<|call|>": 7}
    assert tokenizer.end_ids(control, [9, None]) == {6, 7, 9}


@pytest.mark.parametrize(
    ("pre", "said", "expected"),
    [("gpt-2", None, False), ("llama-bpe", None, True), ("llama-bpe", False, False), ("gpt-2", True, True)],
)
def test_bos_is_added_as_the_file_or_its_kind_says(pre: str, said: bool | None, expected: bool) -> None:
    assert tokenizer.from_metadata(changed(pre=pre, add_bos_token=said), "test", None).adds_bos is expected
    assert PIECES.adds_bos


def test_an_unknown_pre_tokenizer_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(UnsupportedType, match=r"'nonsense'.*llama-bpe.*qwen2") as caught:
        tokenizer.from_metadata(changed(pre="nonsense"), "model.gguf", None)
    assert caught.value.hint


DAMAGED: dict[str, dict[str, Any]] = {
    "no kind": changed(model=None),
    "another kind": changed(model="bert"),
    "a kind that is a number": changed(model=7),
    "no tokens": changed(tokens=None),
    "empty tokens": changed(tokens=[]),
    "tokens that are numbers": changed(tokens=[1, 2, 3]),
    "the same token twice": changed(tokens=["a", "b", "a"], token_type=[1, 1, 1], merges=[], eos_token_id=1),
    "too few types": changed(token_type=[1]),
    "types that are text": changed(token_type=["a"] * len(KEYS["tokenizer.ggml.tokens"])),
    "no merges": changed(merges=None),
    "a merge that is no pair": changed(merges=["ab"]),
    "a merge without a second half": changed(merges=["a "]),
    "a merge of unknown tokens": changed(merges=["never seen"]),
    "an eos beyond the vocabulary": changed(eos_token_id=10**6),
    "a negative eos": changed(eos_token_id=-1),
    "an eos that is text": changed(eos_token_id="2"),
    "an add_bos that is text": changed(add_bos_token="yes"),
    "scores missing": changed(model="llama"),
    "scores too few": changed(model="llama", scores=[0.0]),
    "scores not finite": changed(model="llama", scores=[float("nan")] * len(KEYS["tokenizer.ggml.tokens"])),
    "a pre that is a number": changed(pre=3),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_metadata_is_a_format_error_that_names_the_file(name: str) -> None:
    keys = {key: value for key, value in DAMAGED[name].items() if value is not None}
    with pytest.raises(FormatError, match=r"model\.gguf"):
        tokenizer.from_metadata(keys, "model.gguf", None)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_metadata_gives_a_tokenizer_or_our_error(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(KEYS)))
    junk = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.lists(st.integers(-5, 9), max_size=4),
    )
    value = data.draw(st.one_of(junk, st.lists(st.text(max_size=3), max_size=6)))
    try:
        words = tokenizer.from_metadata(KEYS | {key: value}, "test", None)
    except FormatError:
        return
    words.encode("Hello <|im_end|>")


def folder_with(folder: Path, **settings_: Any) -> Path:
    BYTES.save_json(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"} | settings_))
    return folder


def test_a_folder_gives_the_same_ids_as_the_file_it_was_made_from(tmp_path: Path) -> None:
    words = tokenizer.from_folder(folder_with(tmp_path))
    for line in lines(300, seed=4):
        for specials in (True, False):
            assert words.encode(line, specials=specials) == BYTES.encode(line, specials=specials)
        assert words.decode(words.encode(line)) == BYTES.decode(BYTES.encode(line))
    assert words.specials == BYTES.specials


def test_a_sentence_piece_folder_gives_the_same_ids_and_text(tmp_path: Path) -> None:
    PIECES.save_json(tmp_path / "tokenizer.json")
    words = tokenizer.from_folder(tmp_path)
    for line in lines(300, seed=4):
        assert words.encode(line) == PIECES.encode(line)
        assert words.decode(words.encode(line)) == PIECES.decode(PIECES.encode(line))


def test_a_folders_settings_name_the_special_tokens(tmp_path: Path) -> None:
    bos = {"content": "<|im_start|>", "lstrip": False}
    folder_with(tmp_path, bos_token=bos, pad_token="<|endoftext|>", add_bos_token=True)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7, 10**9]}))
    words = tokenizer.from_folder(tmp_path)
    assert (words.bos_id, words.eos_id, words.pad_id, words.adds_bos) == (1, 2, 0, True)
    assert words.eos_ids == {0, 2, 7}


def test_a_post_processor_tells_whether_bos_is_added(tmp_path: Path) -> None:
    from tokenizers import processors

    folder_with(tmp_path, bos_token="<|im_start|>")
    assert not tokenizer.from_folder(tmp_path).adds_bos
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    backend.save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.from_folder(tmp_path)
    assert words.adds_bos
    assert words.encode("x") == BYTES.encode("x")


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"model": 3}', "\x00\xff", '{"version": "1.0", "model": {"type": "BPE"}}']
)
def test_a_damaged_tokenizer_file_is_a_format_error(damage: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(damage)
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        tokenizer.from_folder(tmp_path)


def test_a_folder_without_tokenizer_json_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    with pytest.raises(FormatError, match=r"tokenizer\.model alone") as caught:
        tokenizer.from_folder(tmp_path)
    assert "save_pretrained" in caught.value.hint


def test_an_eos_that_is_not_in_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="eos_token"):
        tokenizer.from_folder(folder_with(tmp_path, eos_token="<never>"))


def test_white_space_after_phi3s_special_tokens_goes_with_them() -> None:
    keys = KEYS | {"general.name": "Phi-3.5 mini"}
    keys["tokenizer.ggml.tokens"] = [*KEYS["tokenizer.ggml.tokens"], *SPECIALS[-1:]]
    keys["tokenizer.ggml.token_type"] = [*KEYS["tokenizer.ggml.token_type"], 3]
    words = tokenizer.from_metadata(keys, "test", None)
    assert words.encode("<|im_end|> \nx") == words.encode("<|im_end|>x")
    assert words.encode("<|endoftext|>\nx") != words.encode("<|endoftext|>x")


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "qwen05", "gemma3"])
def test_a_real_tokenizer_opens_within_its_time(name: str, tmp_path: Path) -> None:
    import time

    import models
    from nomoat.formats.gguf import GgufFile

    file = GgufFile.open(models.path(name))
    first = tokenizer.from_gguf(file, tmp_path)
    started = time.process_time()
    again = tokenizer.from_gguf(file, tmp_path)
    assert time.process_time() - started < 3  # under 1 s on an idle machine
    for line in lines(200):
        assert again.encode(line) == first.encode(line)
