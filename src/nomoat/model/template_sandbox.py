"""Running a chat template, which is a program from the internet, with bounds that hold.

Jinja's immutable sandbox keeps a template away from Python. It does not keep it from looping for a year, or from
``'a' * 10**9``. So every step that can grow or repeat goes through a ``Fuel``: loops, macros and comparisons by a
rewrite of the syntax tree, operators, calls, filters, slices and joins by the hooks of the environment. What is left
between two such steps is bounded by the size of the values, and no value grows unseen.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Joiner, Namespace

from nomoat.core.errors import TemplateError
from nomoat.model.template_filters import BOUNDED_METHODS, FILTERS, METHODS
from nomoat.model.template_fuel import Fuel, Overrun
from nomoat.model.template_rewrite import metered

MAX_SOURCE_CHARS = 1 << 18
MAX_BLOCKS = 4096
MAX_NODES = 10_000
MAX_RENDERED_CHARS = 1 << 22
MAX_NUMBER_BITS = 4096
TIME_LIMIT_S = 5.0
_STRFTIME_CHARS = 200


@dataclass(slots=True)
class _Run:
    """What one rendering has: its fuel, and the marks to put around ``{% generation %}``."""

    fuel: Fuel
    marks: tuple[str, str] | None = None


class _Runs(threading.local):
    """The rendering under way in each thread."""

    def __init__(self) -> None:
        self.now = _Run(Fuel(0, 0.0))


def raise_exception(message: object) -> NoReturn:
    """What templates call to refuse a conversation."""
    raise jinja2.TemplateError(str(message)[:1000])


def strftime_now(layout: str) -> str:
    """Today, as templates ask for it."""
    return time.strftime(str(layout)[:_STRFTIME_CHARS])


class Generation(Extension):
    """``{% generation %} ... {% endgeneration %}``: the parts that the assistant says, as transformers has it."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Macro) -> str:
        said = str(caller())
        marks = self.environment.marks if isinstance(self.environment, Sandbox) else None
        return said if marks is None else f"{marks[0]}{said}{marks[1]}"


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for one template; renderings in several threads do not disturb each other."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # nothing is computed while compiling, where no fuel is spent
            extensions=[loopcontrols, Generation],
            finalize=self.printable,
            cache_size=0,
        )
        self._runs = _Runs()
        ranges = self.globals["range"]
        self.globals = {
            "range": ranges,
            "dict": dict,
            "namespace": Namespace,
            "joiner": Joiner,
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
        }
        self._callable = (ranges, dict, Namespace, Joiner, raise_exception, strftime_now)
        self.filters = {name: self._metered(filter_) for name, filter_ in FILTERS.items()}
        self.tests = {name: self._metered(cast(Any, test)) for name, test in self.tests.items()}

    @property
    def fuel(self) -> Fuel:
        return self._runs.now.fuel

    @property
    def marks(self) -> tuple[str, str] | None:
        return self._runs.now.marks

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        if any(n > MAX_NODES for n, _ in enumerate(source.find_all(nodes.Node))):
            raise Overrun(f"has more than {MAX_NODES} parts")
        return super()._generate(metered(source), name, filename, defer_init)

    def _metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.fuel.spend(1)
            return self.fuel.weighed(function(*args, **kwargs))

        return run

    # What the rewritten tree calls, by these names.

    def step(self) -> bool:
        self.fuel.spend(1)
        return True

    def compared(self, answer: Any) -> Any:
        self.fuel.spend(1)
        return answer

    def weighed(self, value: Any) -> Any:
        return self.fuel.weighed(value)

    def glued(self, *parts: Any) -> str:
        return self.fuel.join("", [self.fuel.text(part) for part in parts])

    def sliced(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        return self.fuel.weighed(value[start:stop:step])

    # Jinja's hooks.

    def concat(self, parts: Iterable[str]) -> str:
        return self.fuel.join("", list(parts))

    def printable(self, value: Any) -> Any:
        return self.fuel.text(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.fuel.spend(1)
        if operator == "*":
            _check_repeat(left, right)
        if operator == "**":
            _check_power(left, right)
        if operator == "%" and isinstance(left, str):
            raise TemplateError("the template formats with '%', which is not offered")
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return self.fuel.join("", [left, right])
        return self.fuel.weighed(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not self._may_call(function):
            raise TemplateError(f"the template calls {_name(function)}, which is not offered")
        self.fuel.spend(1)
        if isinstance(function, BuiltinMethodType) and isinstance(function.__self__, str):
            bounded = BOUNDED_METHODS.get(function.__name__)
            if bounded is not None:
                return bounded(self.fuel, function.__self__, *args, **kwargs)
        return self.fuel.weighed(super().call(context, function, *args, **kwargs))

    def _may_call(self, function: Any) -> bool:
        if isinstance(function, BuiltinMethodType):
            return function.__name__ in METHODS.get(type(function.__self__), ())
        if isinstance(function, MethodType):
            return isinstance(function.__self__, (Sandbox, Generation, LoopContext))
        return isinstance(function, (Macro, LoopContext, Joiner)) or any(function is one for one in self._callable)

    def run(
        self,
        template: jinja2.Template,
        variables: Mapping[str, Any],
        *,
        marks: tuple[str, str] | None = None,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> str:
        """Render. Raises ``TemplateError`` for whatever goes wrong, limits included."""
        fuel = Fuel(MAX_RENDERED_CHARS, time_limit_s)
        before, self._runs.now = self._runs.now, _Run(fuel, marks)
        try:
            return fuel.join("", _capped(template.generate(variables)))
        except TemplateError:
            raise
        except Overrun as error:
            raise TemplateError(f"the chat template {error}") from error
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template refuses these messages: {error}") from error
        except Exception as error:  # someone else's program: anything may come out
            raise TemplateError(f"the chat template fails: {type(error).__name__}: {error}") from error
        finally:
            self._runs.now = before

    def compiled(self, source: str) -> jinja2.Template:
        """Raises ``TemplateError`` for a template that is too long or does not parse."""
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(f"the chat template has {len(source)} characters, {MAX_SOURCE_CHARS} are allowed")
        if source.count("{%") + source.count("{{") > MAX_BLOCKS:
            raise TemplateError(f"the chat template has more than the {MAX_BLOCKS} blocks that are allowed")
        try:
            return self.from_string(source)
        except Exception as error:  # Jinja's syntax errors, and Python's for code nested too deeply
            raise TemplateError(f"the chat template does not parse: {error}") from error


def _capped(pieces: Iterable[str]) -> list[str]:
    kept: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_RENDERED_CHARS:
            raise Overrun(f"writes more than {MAX_RENDERED_CHARS} characters")
        kept.append(piece)
    return kept


def _check_repeat(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, (str, list, tuple)) and isinstance(times, int):
            if len(value) * times > MAX_RENDERED_CHARS:
                raise Overrun(f"makes a value of {len(value) * times} parts")
            return
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(max(left.bit_length(), 1) * abs(right))


def _check_bits(bits: int) -> None:
    if bits > MAX_NUMBER_BITS:
        raise Overrun(f"computes a number of {bits} bits")


def _name(function: Any) -> str:
    if isinstance(function, (BuiltinMethodType, MethodType)):
        return f"{type(function.__self__).__name__}.{function.__name__}"
    return "something undefined" if isinstance(function, Undefined) else type(function).__name__
