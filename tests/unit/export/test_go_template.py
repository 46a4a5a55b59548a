"""The Go templates that we write mean here what they mean in Go. Expected texts are from Go's own documentation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.core.errors import TemplateError
from nomoat.export.go_template import GoTemplate, quoted

TALK = [{"Role": "user", "Content": "a"}, {"Role": "assistant", "Content": "b"}]


def render(source: str, **values: Any) -> str:
    return GoTemplate(source).render({"Messages": TALK, "System": "", "N": 3, **values})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{23 -}} < {{- 45}}", "23<45"),  # text/template, "Text and spaces"
        ("a \n {{- 1 -}} \t\n b", "a1b"),
        ("a {{ 1 }} b", "a 1 b"),
        ("{{ if .System }}x{{ else if eq .N 3 }}y{{ else }}z{{ end }}", "y"),
        ("{{ if and .System (eq .N 3) }}x{{ else }}z{{ end }}", "z"),
        ("{{ if not .System }}x{{ end }}", "x"),
        ('{{ or .System "none" }}', "none"),
        ("{{ and .N 0 }}", "0"),
        ("{{ eq .N 1 2 3 }}", "true"),
        ("{{ $x := len .Messages }}{{ $x }}", "2"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ .Role }}{{ $m.Content }} {{ end }}", "0usera 1assistantb "),
        ("{{ range $i, $_ := .Messages }}{{ len (slice $.Messages $i) }}{{ end }}", "21"),
        ('{{ "say \\"{{ hi }}\\"\\n" }}', 'say "{{ hi }}"\n'),
        ("{{ $.N }}{{ le .N 3 }}{{ ne .N 3 }}", "3truefalse"),
    ],
)
def test_actions_do_what_go_says(source: str, text: str) -> None:
    assert render(source) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ if .N }}x",
        "{{ end }}",
        "{{ .Nothing }}",
        "{{ $nobody }}",
        "{{ .N | printf }}",
        '{{ template "x" }}',
        "{{ }}",
        "{{ (eq 1 1 }}",
        "{{ range .Messages }}x{{ end }}",
        "{{ len 3 }}",
        "{{ not 1 2 }}",
        "open {{ .N",
        "{{ if 1 }}" * 50 + "{{ end }}" * 50,
        "x" * 70000,
    ],
)
def test_what_is_not_known_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="Go template"):
        render(source)


def test_a_variable_is_forgotten_at_the_end_of_its_block() -> None:
    with pytest.raises(TemplateError, match=r"unknown name '\$x'"):
        render("{{ if 1 }}{{ $x := 1 }}{{ end }}{{ $x }}")


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_stands_in_a_literal(text: str) -> None:
    source = "{{ " + quoted(text) + " }}"
    assert GoTemplate(source).render({}) == text


def test_what_is_shown_is_never_read_as_a_template() -> None:
    assert render("{{ .System }}", System="{{ .N }}") == "{{ .N }}"
