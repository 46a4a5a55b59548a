"""A Go template for every chat template that only puts text around messages, and a refusal for the others."""

from __future__ import annotations

import pytest

import chat_templates
from nomoat.core.errors import TemplateError
from nomoat.export.modelfile import Modelfile, stops_of
from nomoat.export.ollama_template import check_template, derive_template
from nomoat.model.template import ChatTemplate
from nomoat.model.template_default import default_source

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
SPOKEN = {
    "chatml": chat_templates.CHATML,
    "llama 2": chat_templates.LLAMA2,
    "llama 3": chat_templates.LLAMA3,
    "gemma": chat_templates.GEMMA,
    "gemma 3": chat_templates.GEMMA3,
    "phi 3": chat_templates.PHI3,
    "qwen 2.5": chat_templates.QWEN25,
    "qwen 3": chat_templates.QWEN3,
    "deepseek r1": chat_templates.DEEPSEEK_R1,
    "zephyr": chat_templates.ZEPHYR,
    "vicuna": chat_templates.VICUNA,
    "command r": chat_templates.COMMAND_R,
    "ours": default_source(adds_bos=True),
}


@pytest.mark.parametrize("family", SPOKEN)
@pytest.mark.parametrize("bos", ["", "<s>"], ids=["bos in the template", "bos by the tokenizer"])
def test_a_go_template_says_what_the_model_s_own_says(family: str, bos: str) -> None:
    template = ChatTemplate(SPOKEN[family], variables=NAMES)
    derived = derive_template(template, bos=bos)  # checks conversations of every shape
    check_template(template, derived, [{"role": "user", "content": '{{ .Role }} """ \\n'}], bos=bos)
    assert not (bos and "<s>" in derived.render([{"role": "user", "content": "x"}]).removeprefix("[INST]")[:3])


def test_a_default_system_message_becomes_the_system_of_the_modelfile() -> None:
    derived = derive_template(ChatTemplate(chat_templates.QWEN25, variables=NAMES), bos="")
    assert derived.system == "You are Qwen."
    assert derived.render([{"role": "user", "content": "x"}]).count("You are Qwen.") == 1
    own = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]
    assert "Qwen" not in derived.render(own)


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ messages | length }}",
        "{{ messages[-1].content }}",
        chat_templates.MISTRAL,
    ],
    ids=["changes content", "counts", "forgets", "system in the last turn"],
)
def test_a_template_that_does_more_is_refused(source: str) -> None:
    with pytest.raises(TemplateError) as refused:
        derive_template(ChatTemplate(source, variables=NAMES), bos="")
    assert "nomoat serve" in refused.value.hint


def test_white_space_that_the_model_trims_and_go_does_not_is_found_by_the_check() -> None:
    trims = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}</s>{% endfor %}" + (
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = ChatTemplate(trims, variables=NAMES)
    derived = derive_template(template, bos="")
    with pytest.raises(TemplateError, match="at character 8"):
        check_template(template, derived, [{"role": "user", "content": " x"}], bos="")


def test_the_modelfile_names_everything_that_a_runtime_needs() -> None:
    derived = derive_template(ChatTemplate(chat_templates.QWEN25, variables=NAMES), bos="")
    stops = stops_of(["<|im_end|>", "", 'a"b', "<|im_end|>"])
    text = Modelfile("./m.gguf", "./a.gguf", derived, stops, 4096, "apache-2.0").text()
    assert text.startswith('FROM ./m.gguf\nADAPTER ./a.gguf\nTEMPLATE """')
    assert 'SYSTEM """You are Qwen."""\nPARAMETER stop "<|im_end|>"\nPARAMETER stop "a\\"b"\n' in text
    assert text.endswith('PARAMETER num_ctx 4096\nLICENSE """apache-2.0"""\n')
