"""The Go templates that we write, rendered by Go itself, give what our small evaluator gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import chat_templates
from nomoat.export.go_template import GoTemplate
from nomoat.export.ollama_template import derive_template
from nomoat.model.template import ChatTemplate

PROGRAM = """
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }
type Values struct {
	Messages []*Message
	System   string
	N        int
}
type Case struct {
	Source string
	Values Values
}

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	texts := []string{}
	for _, c := range cases {
		var text strings.Builder
		if err := template.Must(template.New("").Parse(c.Source)).Execute(&text, c.Values); err != nil {
			panic(err)
		}
		texts = append(texts, text.String())
	}
	json.NewEncoder(os.Stdout).Encode(texts)
}
"""
TALK = [("system", "Be brief.\n"), ("user", '{{ .N }} "\\n" }} `x`'), ("assistant", "ü 🍂 <b>&"), ("user", " end ")]
SINGLE = [
    "{{23 -}} < {{- 45}}",
    "a \n {{- 1 -}} \t\n b",
    '{{ "}} {{ \\u00fc \\"quoted\\"\\t" }}',
    "{{ if .System }}x{{ else if eq .N 3 }}y{{ else }}z{{ end }}",
    "{{ $x := len .Messages }}{{ range $i, $_ := .Messages }}{{ len (slice $.Messages $i) }}{{ end }}{{ $x }}",
    "{{ and .N 0 }} {{ or .System \"none\" }} {{ not .N }} {{ eq .N 1 2 3 }} {{ le .N 3 }} {{ ne .N 3 }}",
]  # fmt: skip


def cases() -> list[dict[str, Any]]:
    said = [{"Role": role, "Content": text} for role, text in TALK]
    shapes = [said[first:end] for first in (0, 1) for end in (2, 4)]
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    sources = [
        derive_template(ChatTemplate(source, variables=names), bos="").source
        for source in (
            chat_templates.CHATML, chat_templates.LLAMA2, chat_templates.LLAMA3, chat_templates.GEMMA3,
            chat_templates.PHI3, chat_templates.QWEN25, chat_templates.DEEPSEEK_R1, chat_templates.COMMAND_R,
        )
    ]  # fmt: skip
    return [
        {"Source": source, "Values": {"Messages": shape, "System": system, "N": 3}}
        for source in (*sources, *SINGLE)
        for shape in shapes
        for system in ("", "Be brief.")
    ]


def test_go_renders_every_template_as_we_do(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go here")
    (tmp_path / "main.go").write_text(PROGRAM)
    environment = {**os.environ, "HOME": str(tmp_path), "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"}
    asked = json.dumps(cases())
    done = subprocess.run(
        [go, "run", "main.go"], cwd=tmp_path, env=environment, input=asked, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours = [GoTemplate(case["Source"]).render(case["Values"]) for case in cases()]
    assert json.loads(done.stdout) == ours
