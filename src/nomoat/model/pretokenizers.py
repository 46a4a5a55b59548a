"""How each kind of byte-level BPE cuts text into words before the merges run.

A GGUF file names its kind in ``tokenizer.ggml.pre`` and says no more. The patterns are facts of each model's own
``tokenizer.json``; which name stands for which model is from llama.cpp (``src/llama-vocab.cpp``). Where llama.cpp
simplifies a pattern for its own regex engine, or leaves out Unicode normalization, the original holds here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tokenizers import Regex, normalizers, pre_tokenizers

from nomoat.core.errors import UnsupportedType

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|"
    rf"\p{{N}}%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_ASCII_MARKS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
_HAN_KANA = r"[一-龥\x{3040}-ゟ゠-ヿ]+"
_HAN_HANGUL = r"[一-龥\x{800}-一가-\x{D7FF}]+"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
# Cased letters, as the model's own file lists them (not quite \p{LC} of any Unicode version), in hexadecimal.
_DEEPSEEK_LETTERS = (
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A "
    "38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF "
    "1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D "
    "1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 "
    "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F "
    "2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F "
    "A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 "
    "104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943 "
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One kind. ``patterns`` cut one after the other; what a pattern does not match stays a word too.

    ``nfc``: text is normalized first. ``whole_words``: a word that is a token as it stands skips the merges
    (``ignore_merges`` of the ``tokenizers`` library). ``adds_bos``: the default where the file does not say.
    """

    patterns: tuple[str, ...]
    nfc: bool = False
    whole_words: bool = False
    adds_bos: bool = False

    def normalizer(self) -> normalizers.Normalizer | None:
        return normalizers.NFC() if self.nfc else None

    def splitter(self) -> pre_tokenizers.PreTokenizer:
        """The cuts, then the byte alphabet of GPT-2."""
        steps: list[pre_tokenizers.PreTokenizer] = [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in self.patterns
        ]
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
        return pre_tokenizers.Sequence(steps)


def _tiktoken(digits: str) -> str:
    """The cl100k pattern, which most later models share but for how many digits make a word."""
    return f"{_CONTRACTION}|{_WORD}|{digits}|{_MARKS}|{_SPACES}"


def _code_points(ranges: str) -> str:
    """``41-5A B5`` as the inside of an Oniguruma character class."""
    return re.sub(r"[0-9A-F]+", lambda code: rf"\x{{{code[0]}}}", ranges).replace(" ", "")


_PLAIN = PreTokenizer((_GPT2,))
_DIGITS = PreTokenizer((_DIGIT, _GPT2))
_CL100K = PreTokenizer((_tiktoken(r"\p{N}{1,3}"),))
_LLAMA3 = replace(_CL100K, whole_words=True, adds_bos=True)
_ONE_DIGIT = PreTokenizer((_tiktoken(_DIGIT),))
_QWEN2 = replace(_ONE_DIGIT, nfc=True)
_QWEN35 = PreTokenizer(
    (
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
        rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
    ),
    nfc=True,
)
_O200K = PreTokenizer((_CASED % (f"{_CONTRACTION}?", f"{_CONTRACTION}?", "{1,3}"),))
_TEKKEN = PreTokenizer((_CASED % ("", "", ""),), whole_words=True, adds_bos=True)
_FALCON = PreTokenizer((r"[\p{P}$+<=>^~|`]+", _GPT2, "[0-9][0-9][0-9]"))
_FALLBACK = PreTokenizer((r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))
_DEEPSEEK_LLM = PreTokenizer(
    (
        r"[\r\n]",
        rf"\s?[{_code_points(_DEEPSEEK_LETTERS)}]+",
        r"\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+",
        r"\s+$",
        _HAN_HANGUL,
        r"\p{N}+",
    )
)
_DEEPSEEK_CODER = PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_HANGUL, _DIGIT))
_DEEPSEEK_V3 = PreTokenizer(
    (
        r"\p{N}{1,3}",
        _HAN_KANA,
        rf"{_ASCII_MARKS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
    )
)
_SEED_CODER = PreTokenizer((rf"{_CONTRACTION}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",))
_BAILING = PreTokenizer(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|"
        r"\s*[\r\n]|\s+(?!\S)|\s+",
    )
)
_MINICPM5 = PreTokenizer((r"\p{N}{1,3}", _tiktoken(r"\p{N}+")), whole_words=True)
_SUPERBPE = PreTokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))"))

KINDS: dict[str, PreTokenizer] = {
    **dict.fromkeys(("", "default"), _FALLBACK),
    **dict.fromkeys(("gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4"), _PLAIN),
    **dict.fromkeys(("jais", "trillion", "granite-docling"), _PLAIN),
    **dict.fromkeys(("mpt", "olmo"), replace(_PLAIN, nfc=True)),
    **dict.fromkeys(("starcoder", "refact", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"), _DIGITS),
    "command-r": replace(_DIGITS, nfc=True),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2"), _LLAMA3),
    "midm-2.0": _LLAMA3,
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), _CL100K),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"), _QWEN2),
    **dict.fromkeys(("hunyuan", "solar-open", "grok-2", "kormo"), _ONE_DIGIT),
    "qwen35": _QWEN35,
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), _O200K),
    "tekken": _TEKKEN,
    "falcon": _FALCON,
    "deepseek-llm": _DEEPSEEK_LLM,
    "deepseek-coder": _DEEPSEEK_CODER,
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), _DEEPSEEK_V3),
    "seed-coder": _SEED_CODER,
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _BAILING),
    "minicpm5": _MINICPM5,
    "superbpe": _SUPERBPE,
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), PreTokenizer((_BLOOM,))),
    "viking": PreTokenizer((_BLOOM, _DIGIT)),
}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The kind that a file calls ``name``. Raises ``UnsupportedType`` with the names there are."""
    try:
        return KINDS[name]
    except KeyError:
        raise UnsupportedType(
            f"pre-tokenizer {name!r} (tokenizer.ggml.pre) is not one that nomoat knows: {_listed(KINDS)}",
            hint="convert the model again with a current llama.cpp, or use its Hugging Face folder",
        ) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name for name in names if name))
