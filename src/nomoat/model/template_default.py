"""The chat template for a base that brings none.

Plain headings and the tokenizer's own EOS, nothing else:

    ### User:
    How old is the moon?

    ### Assistant:
    Some 4.5 billion years.<eos>

A vocabulary may well have turn tokens (``<start_of_turn>``, ``<|im_start|>``) that the base was never trained on. In
Gemma-3-270M their embeddings have a cosine of 0.9 and more to those of thousands of unused tokens and of ``<pad>``, so
that a frozen head can hardly tell them apart; EOS, which ended every document, stands alone. Deterministic: it depends
on nothing but whether the tokenizer begins texts with BOS. Its source is stored with each adapter trained on it.
"""

from __future__ import annotations

_TURNS = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '### Assistant:\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% else %}"
    "{{ '### ' + message['role'] | capitalize + ':\\n' + message['content'] + '\\n\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
_NO_TOOLS = "{% if tools %}{{ raise_exception('this base has no chat template with tools') }}{% endif %}"


def default_source(*, adds_bos: bool) -> str:
    """The Jinja source."""
    return _NO_TOOLS + ("{{ bos_token }}" if adds_bos else "") + _TURNS
