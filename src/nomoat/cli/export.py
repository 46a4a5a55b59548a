"""``nomoat export STACK --to gguf-lora|gguf|hf|peft|ollama``: take a stack anywhere, with a receipt."""

from __future__ import annotations

import argparse

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.core.records import Done
from nomoat.export.options import ExportOptions

_EXAMPLES = """\
examples:
  nomoat export smollm2-135m+scribe --to gguf-lora --out scribe-lora
  llama-server --lora scribe-lora/adapter.gguf

  nomoat export smollm2-135m+scribe+sql:0.5 --to gguf --type Q4_K_M --name both
  nomoat chat both

  nomoat export scribe --to ollama --out scribe-ollama
  ollama create scribe -f scribe-ollama/Modelfile

Before an export is called done, your own conversations go through training's renderer, the
template in the file and Ollama's: the tokens must be equal. Then the predictions of base and stack
are compared with those of the exported file, in our engine and in llama.cpp (xllamacpp from pip).
What differs is refused, with exit code 11, and nothing is left on disk. The receipt is kept in
nomoat.json.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """STACK, and the options of an export."""
    add_flags(parser, ExportOptions, inputs=("model",))
    parser.epilog = _EXAMPLES


def run(args: argparse.Namespace, env: Environment) -> int:
    """Export, and print the receipt."""
    from nomoat.export.job import export

    done = finished(export(read_flags(args, ExportOptions), env.store), env, json_lines=args.json)
    if not args.json:
        env.print(_receipt(done))
    return 0


def _receipt(done: Done) -> str:
    result = done.result
    damage, tokens, told = result["damage"], result["tokens"], result["llama_cpp"]
    lines = [str(done.path)]
    if tokens is not None:
        ways = ", ".join(tokens["ways"])
        lines.append(
            f"tokens       equal in {tokens['conversations']} conversations, {tokens['tokens']:,} tokens ({ways})"
        )
    lines.append(
        f"predictions  KL {damage['kl']:.2g} nats a token (let pass {result['bound']['kl']:g}), same likeliest token at"
        f" {damage['agreement']:.1%} of {damage['tokens']:,} places"
    )
    if told is not None:
        lines.append(
            f"llama.cpp    {told['chats']} conversations as in training; {told['prompts']} prompts: KL"
            f" {told['kl']:.2g}, {told['agreement']:.1%} of its greedy tokens"
        )
    return "\n".join([*lines, f"licence      {result['licence']}"])
