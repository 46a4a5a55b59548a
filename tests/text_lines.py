"""Lines of every sort to tokenize, the same in every run, made from nothing but Python's own files and Unicode."""

from __future__ import annotations

import json
import random
import sysconfig
import unicodedata
from collections.abc import Iterator
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# Words, one language a line.
_ENGLISH = (
    "the of and a to in is you that it he was for on are with as I his they be at one have this from or "
    "had by word but not what all were we when your can said there use an each which she do how their if "
    "will up other about out many then them these so some her would make like him into time has look two "
    "more write go see number no way could people my than first water been call who oil its now find long "
    "down day did get come made may part Don't can't I'm you're it's we've they'll he'd O'Neil U.S.A. "
    "e.g. Mr. McDonald iPhone NASA"
)
_FRENCH = (
    "l'été où ça être garçon château Noël œuvre aujourd'hui c'est-à-dire «bonjour» français naïve élève à "
    "même forêt hôtel août maïs coïncidence qu'il n'est j'ai d'accord déjà très près après tôt île dû mûr "
    "sûr cœur"
)
_ARABIC = "السلام عليكم مرحبا بالعالم هذا نَصٌّ عَرَبِيٌّ كتاب المدرسة ١٢٣٤٥ اللغة العربية جميلة، أليس كذلك؟ القرآن"
_HINDI = "नमस्ते दुनिया यह हिन्दी पाठ है क्या हाल है १२३ विद्यालय संस्कृतम्"
_CYRILLIC = "Привет мир это русский текст ёлка объём Київ їжак Београд здравствуйте №5"
_EMOJI = "😀 😂 🦙 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 ❤️ ✨ 🤷🏻‍♀️ 1️⃣ ☕️ 🫠 ©️ ™"
_SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|eot_id|> <bos> <eos> <start_of_turn> <end_of_turn> <s> </s> "
    "<unk> <0x0A> <0xFF> [INST] [/INST] <|user|> <tool_call> </tool_call> <|fim_prefix|> <table> </td> "
    "<unused7> <repo_name> <|im_ <|im_end|> <end_of_ <|im_end|><|im_end|>"
)
HAN = "你好世界这是中文文本我们今天学习语言模型的一二三四五六七八九十天地玄黄宇宙洪荒日月盈昃、。！？「」（）"
KANA = "これは日本語のテキストですカタカナとひらがな東京タワーありがとうー々〆"
HANGUL = "안녕하세요세계한국어텍스트입니다오늘날씨가좋네요ㅋㅋㅎㅎ"
ENGLISH, FRENCH, ARABIC, HINDI, CYRILLIC, EMOJI, SPECIAL = (
    words.split() for words in (_ENGLISH, _FRENCH, _ARABIC, _HINDI, _CYRILLIC, _EMOJI, _SPECIAL)
)
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", *"\r\u00a0\u3000\u2003\x0b\x0c\u200b▁"]
_NUMBERS = "0 7 42 123 1234 12345 3.14159 1,000,000 1e-5 0xFF ²³ ½ Ⅷ ٣٤ ५६ 2024-01-31"
NUMBERS = _NUMBERS.split()
MARKS = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~€£¥§¶•…—–“”‘’«»¿¡°±×÷≠≤∞∑√∂→←⇒☃♥♫")


def lines(n: int, *, seed: int = 0) -> list[str]:
    """``n`` lines: words of ten languages, code, white space, numbers, marks, specials, control and any letters."""
    makers = [_words, _words, _mixed, _mixed, _spaced, _figures, _symbols, _any_unicode, _decomposed, _runs]
    rng = random.Random(seed)
    code = _code(n // 4)
    made = [makers[i % len(makers)](rng) for i in range(n - len(code))]
    return made + code


def shared_lines(limit: int) -> list[str]:
    """Rows of the development data sets where that folder is there; ``limit`` per file."""
    if not SHARED.is_dir():
        return []
    found: list[str] = []
    for path in sorted(SHARED.rglob("*.jsonl"))[:40] + sorted(SHARED.glob("oasst_zh/*")):
        with path.open(encoding="utf-8", errors="replace") as file:
            found += [line[:2000] for line, _ in zip(file, range(limit))]
    return found


def _words(rng: random.Random) -> str:
    language = rng.choice((ENGLISH, ENGLISH, FRENCH, ARABIC, HINDI, CYRILLIC, HAN, KANA, HANGUL))
    glue = "" if isinstance(language, str) else " "
    text = glue.join(rng.choice(language) for _ in range(rng.randint(1, 14)))
    return rng.choice((text, text.upper(), text.capitalize(), text + rng.choice(".!?,;:")))


def _mixed(rng: random.Random) -> str:
    pools = (ENGLISH, FRENCH, ARABIC, HINDI, CYRILLIC, HAN, KANA, HANGUL, EMOJI, SPECIAL, SPACES, NUMBERS, MARKS)
    return "".join(
        rng.choice(rng.choice(pools)) + rng.choice(("", "", " ", " ", "'s", "\n")) for _ in range(rng.randint(1, 10))
    )


def _spaced(rng: random.Random) -> str:
    between = ("", "x", "if", "é", "。", "7")
    return "".join(rng.choice(SPACES) * rng.randint(1, 9) + rng.choice(between) for _ in range(5))


def _figures(rng: random.Random) -> str:
    figures = [rng.choice((rng.choice(NUMBERS), str(rng.randrange(10 ** rng.randint(1, 12))))) for _ in range(5)]
    return rng.choice((" ", ", ", "", "-")).join(figures[: rng.randint(1, 5)])


def _symbols(rng: random.Random) -> str:
    return "".join(rng.choice(MARKS + EMOJI) + rng.choice(("", "", " ", "a")) for _ in range(rng.randint(1, 12)))


def _any_unicode(rng: random.Random) -> str:
    letters: list[str] = []
    while len(letters) < 12:
        letter = chr(rng.choice((rng.randrange(0x20), rng.randrange(0x3000), rng.randrange(0x20000))))
        # Not assigned in this Python's tables may mean assigned in another library's: that is no tokenizer's fault.
        if unicodedata.category(letter) not in ("Cs", "Cn"):
            letters.append(letter)
    return "".join(letters)


def _decomposed(rng: random.Random) -> str:
    return unicodedata.normalize("NFD", " ".join(rng.choice(FRENCH + CYRILLIC) for _ in range(5)) + HANGUL[:3])


def _runs(rng: random.Random) -> str:
    pieces = ("a", "ab", "aba", "-", "=", "\n", " ", "ha", "的", "00")
    return "".join(rng.choice(pieces) * rng.randint(1, 40) for _ in range(2))


def _code(n: int) -> list[str]:
    """Source lines of the standard library, some of them joined, and the same as JSON."""
    found: list[str] = []
    for piece in _sources():
        found.append(piece)
        if len(found) % 10 == 0:
            found.append(json.dumps({"code": piece, "n": len(found)}))
        if len(found) >= n:
            break
    return found[:n]


def _sources() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in ("argparse", "ast", "datetime", "decimal", "inspect", "typing", "tarfile", "random", "pickle", "heapq"):
        for path in [library / f"{name}.py", library / f"_py{name}.py"]:
            if path.is_file():
                body = path.read_text("utf-8").split("\n")
                yield from ("\n".join(body[i : i + 1 + i % 3]) for i in range(len(body)))
