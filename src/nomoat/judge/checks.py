"""Answer checks: plain functions of the model's answer and the expected one, in a table."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from nomoat.core.errors import NomoatError, UsageError
from nomoat.judge.answers import last_number, normalise, same_number

AnswerCheck = Callable[[str, str], bool]
Needs = Literal["answers", "choices", "losses"]

DEFAULT_TOLERANCE = 1e-6
_PYTHON = "python:"


@dataclass(frozen=True, slots=True)
class Check:
    """A way to tell a right answer. ``correct(answer, expected)`` is ``None`` where no text is compared."""

    name: str
    needs: Needs
    summary: str
    correct: AnswerCheck | None = None


def exact(answer: str, expected: str) -> bool:
    """Equal character for character, whitespace at both ends aside."""
    return answer.strip() == expected.strip()


def normalised(answer: str, expected: str) -> bool:
    """Equal after ``answers.normalise``: case, whitespace and punctuation do not count."""
    return normalise(answer) == normalise(expected)


def number(answer: str, expected: str, tolerance: float = DEFAULT_TOLERANCE) -> bool:
    """The last number of the answer is the last number of the expected answer, within ``tolerance``."""
    said, wanted = last_number(answer), last_number(expected)
    if said is None or wanted is None:
        return False
    return same_number(said, wanted, tolerance)


SUMMARIES: dict[str, tuple[Needs, str]] = {
    "exact": ("answers", "the answer is the expected one, character for character"),
    "normalised": ("answers", "the same words; case, whitespace and punctuation do not count"),
    "number": ("answers", "the last number in the answer is the expected number"),
    "choice": ("choices", "of the allowed answers, the expected one is the likeliest to the model"),
    "regex": ("answers", "the answer matches --pattern"),
    "python": ("answers", "the user's function says so"),
    "loss": ("losses", "how likely the model finds the expected text"),
}


def make_check(name: str, *, pattern: str = "", tolerance: float = DEFAULT_TOLERANCE) -> Check:
    """The check of that name; ``python:file.py:function`` loads the user's file.

    Raises ``UsageError`` on an unknown name, a pattern that does not compile or a function that is not there.
    """
    kind = "python" if name.startswith(_PYTHON) else name
    if kind not in SUMMARIES or name == "python":
        raise UsageError(
            f"no check {name!r}",
            hint="one of: auto, exact, normalised, number, choice, regex, python:file.py:function, loss",
        )
    needs, summary = SUMMARIES[kind]
    return Check(name, needs, summary, _answer_check(kind, name, pattern, tolerance))


def _answer_check(kind: str, name: str, pattern: str, tolerance: float) -> AnswerCheck | None:
    if kind == "exact":
        return exact
    if kind == "normalised":
        return normalised
    if kind == "number":
        return lambda answer, expected: number(answer, expected, tolerance)
    if kind == "regex":
        return regex_check(pattern)
    if kind == "python":
        return python_check(name.removeprefix(_PYTHON))
    return None


def regex_check(pattern: str) -> AnswerCheck:
    """A check from a regular expression (``re``, searched anywhere, dot matches newlines).

    With ``{expected}`` in the pattern, the expected answer stands there, escaped. With a group, the first
    group found in the answer must equal the one found in the expected answer (or all of it, where the pattern
    does not match it). Otherwise the answer must match.
    """
    if not pattern:
        raise UsageError("the check 'regex' needs a pattern", hint=r"--check regex --pattern 'answer: (\w+)'")
    holder = "{expected}"
    try:
        compiled = re.compile(pattern.replace(holder, "x"), re.DOTALL)
    except re.error as error:
        raise UsageError(f"--pattern {pattern!r} is not a regular expression: {error}") from error
    if holder in pattern:
        return lambda answer, expected: (
            re.search(pattern.replace(holder, re.escape(expected.strip())), answer, re.DOTALL) is not None
        )
    if compiled.groups == 0:
        return lambda answer, expected: compiled.search(answer) is not None
    return lambda answer, expected: _same_group(compiled, answer, expected)


def _same_group(pattern: re.Pattern[str], answer: str, expected: str) -> bool:
    said, wanted = pattern.search(answer), pattern.search(expected)
    if said is None or said[1] is None:
        return False
    target = wanted[1] if wanted is not None and wanted[1] is not None else expected
    return bool(said[1].strip() == target.strip())


def python_check(place: str) -> AnswerCheck:
    """The user's ``function(answer: str, expected: str) -> bool`` from ``file.py:function``.

    The file is run as Python, with the user's rights: only ever on the user's own word.
    """
    file_name, separator, function_name = place.rpartition(":")
    path = Path(file_name)
    if not separator or not function_name.isidentifier() or not path.is_file():
        raise UsageError(f"no function at {place!r}", hint="write it as python:my_check.py:is_right")
    found = vars(_run_file(path)).get(function_name)
    if not callable(found):
        raise UsageError(f"{path} defines no function {function_name!r}")

    def correct(answer: str, expected: str) -> bool:
        try:
            said = found(answer, expected)
        except Exception as error:  # whatever a stranger's function raises is told with its place
            raise UsageError(f"{place} raised {type(error).__name__}: {error}") from error
        if not isinstance(said, bool):
            raise UsageError(f"{place} returned {type(said).__name__} {said!r}; it must say True or False")
        return said

    return correct


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"nomoat_check_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except NomoatError:
        raise
    except Exception as error:  # a syntax error, a missing import: anything can stand in the file
        raise UsageError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module
