"""Templates that mean harm, and templates that are broken: one of our errors, soon, and nothing else."""

from __future__ import annotations

import threading
import time

import pytest

from nomoat.core.errors import TemplateError
from nomoat.model.template_sandbox import MAX_RENDERED_CHARS, MAX_SOURCE_CHARS, Sandbox

MILLION = "{% set x = 'a' * 1000000 %}"

HOSTILE = {
    "a long text by multiplication": "{{ 'a' * 10 ** 9 }}",
    "a long list by multiplication": "{{ [1] * 10 ** 9 }}",
    "padding by filter": "{{ 'a' | center(10 ** 9) }}",
    "padding by method": "{{ 'a'.ljust(10 ** 9) }}",
    "padding by old format": "{{ '%0999999999d' % 1 }}",
    "padding by new format": "{{ '{:>999999999}'.format(1) }}",
    "indentation": "{{ 'a' | indent(10 ** 9) }}",
    "indented json": "{{ [[1]] | tojson(indent=10 ** 9) }}",
    "a long range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "nested loops without output": "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "a loop that throws everything out": "{% for i in range(9999) %}{% for j in range(99999) if false %}"
    "{% endfor %}{% endfor %}",
    "endless recursion": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "an endless recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "doubling by tilde": "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}"
    "{% endfor %}{{ n.s }}",
    "doubling by plus": "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}"
    "{% endfor %}{{ n.s }}",
    "doubling lists": "{% set n = namespace(s=['a']) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "lists of shared lists": "{% set n = namespace(s=['a']) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}"
    "{% endfor %}{{ n.s }}",
    "dictionaries of shared lists": "{% set n = namespace(s=['a']) %}{% for i in range(60) %}"
    "{% set n.s = {'a': n.s, 'b': n.s} %}{% endfor %}{{ n.s | tojson }}",
    "many long texts": MILLION + "".join(f"{{% set x{i} = x ~ '{i}' %}}" for i in range(1000)),
    "many slices": MILLION + "".join(f"{{% set x{i} = x[1:] %}}" for i in range(1000)),
    "growth by replace": MILLION + "{{ x.replace('a', x) }}",
    "growth by the replace filter": MILLION + "{{ x | replace('a', x) }}",
    "growth by join": MILLION + "{{ x.join(range(99999) | map('string')) }}",
    "growth by the join filter": MILLION + "{{ range(99999) | join(x) }}",
    "a captured loop": "{% set x %}{% for i in range(99999) %}{{ 'a' * 10000 }}{% endfor %}{% endset %}",
    "much output": "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
    "a sum of lists": "{{ ([[1] * 16] * 100000) | sum(start=[]) }}",
    "a huge power": "{{ 9 ** (9 ** 9) }}",
    "growing numbers": "{% set n = namespace(x=3) %}{% for i in range(99999) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "rounding to a billion digits": "{{ 1.5 | round(10 ** 9) }}",
    "bytes": "{{ (1).to_bytes(10 ** 9, 'big') }}",
    "lorem ipsum": "{{ lipsum(n=10 ** 6) }}",
    "the class of a text": "{{ ''.__class__.__mro__ }}",
    "changing a list": "{{ messages.append(1) }}",
    "including a file": "{% include '/etc/passwd' %}",
    "a syntax error": "{% if %}",
    "an unknown filter": "{{ 1 | nonsense }}",
    "deep parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "deep blocks": "{% if a %}" * 3000,
    "deep loops": "{% for a in b %}" * 30 + "{% endfor %}" * 30,
    "many loops": "{% for i in range(99999) if false %}{% endfor %}" * 3000,
    "a long source": "a" * (MAX_SOURCE_CHARS + 1),
    "a division by zero": "{{ 1 / 0 }}",
    "a missing part": "{{ messages[7].content.more }}",
    "a wrong type": "{{ 'a' + 1 }}",
    "an object printed": "{{ namespace(a=1) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_in_our_error_and_in_time(name: str) -> None:
    sandbox = Sandbox()
    started = time.thread_time()
    with pytest.raises(TemplateError) as caught:
        sandbox.run(sandbox.compiled(HOSTILE[name]), {"messages": []}, time_limit_s=0.5)
    assert time.thread_time() - started < 10, "compiling takes some of it"
    assert caught.value.message


def test_what_a_template_says_on_refusing_is_in_the_error() -> None:
    sandbox = Sandbox()
    with pytest.raises(TemplateError, match="System role not supported"):
        sandbox.run(sandbox.compiled("{{ raise_exception('System role not supported') }}"), {})


def test_a_long_but_honest_conversation_is_rendered() -> None:
    sandbox = Sandbox()
    template = sandbox.compiled("{% for m in messages %}{{ m }}{% endfor %}")
    text = sandbox.run(template, {"messages": ["word " * 1000] * 500})
    assert len(text) == 5000 * 500 < MAX_RENDERED_CHARS


def test_what_chat_templates_use_works() -> None:
    source = (
        "{%- set ns = namespace(n=0) -%}{%- for m in messages[::-1] -%}{%- if loop.first %}{% continue %}{% endif -%}"
        "{%- set ns.n = ns.n + 1 -%}{{ m.role.upper() ~ ns.n ~ (m | tojson) ~ (m.get('x', 7) | string) }};"
        "{%- endfor -%}"
        "{{ messages | map(attribute='role') | join(',') }} {{ dict(a=1) | tojson }} {{ 'a-b'.split('-')[1] }}"
        "{{ ', '.join(messages | map(attribute='role')) }}{{ [1, 2] | sum }}{{ ' a ' | trim }}{{ 7 % 4 }}"
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ {'b': 1, 'a': 2} | items | list }}"
    )
    sandbox = Sandbox()
    messages = [{"role": "system"}, {"role": "user", "content": "é"}, {"role": "assistant"}]
    assert sandbox.run(sandbox.compiled(source), {"messages": messages}) == (
        'USER1{"role": "user", "content": "é"}7;SYSTEM2{"role": "system"}7;'
        "system,user,assistant {\"a\": 1} bsystem, user, assistant3a31[('b', 1), ('a', 2)]"
    )


def test_two_threads_do_not_share_a_deadline() -> None:
    sandbox = Sandbox()
    slow = sandbox.compiled("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    quick = sandbox.compiled("{% for i in range(2000) %}{{ i % 7 }}{% endfor %}")
    failures: list[str] = []

    def run_slow() -> None:
        try:
            sandbox.run(slow, {}, time_limit_s=0.5)
        except TemplateError as error:
            failures.append(error.message)

    thread = threading.Thread(target=run_slow)
    thread.start()
    texts = {sandbox.run(quick, {}) for _ in range(10)}
    thread.join()
    assert len(texts) == 1
    assert failures == ["the chat template takes too long"]
