"""The options of a move: flags and configuration keys are drawn from here."""

from __future__ import annotations

import dataclasses

from nomoat.core.errors import UsageError
from nomoat.core.options import option
from nomoat.train.options import PRECISIONS

LEARN = ("auto", "logits", "aligned", "words")
# Handed to the tune as they are; it says what is wrong with their values.
TUNED = (
    "rank", "lr", "epochs", "max_steps", "batch_size", "max_seq_len", "eval_rows", "precision", "memory", "threads",
    "seed", "probe_seconds",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class MoveOptions:
    """What is moved where, what the student learns from, and what must be left of every skill."""

    stack: str = option("", "the stack to move: base+a+b, or an adapter", metavar="STACK")
    to: str = option("", "the new base: a name in the store, a GGUF file or a Hugging Face folder", metavar="NEWBASE")
    data: tuple[str, ...] = option(
        (), "a data set or a file for each skill; by default what the adapters were trained on", metavar="NAME,NAME"
    )
    name: str = option("", "the name of the new adapter; made from the old ones and the new base", metavar="NAME")
    replace: bool = option(False, "replace an adapter of that name, once the new one has passed")

    answers: str = option(
        "stack", "whose answers are learned: the old stack's own, or those of the rows", choices=("stack", "rows")
    )
    rows: int = option(0, "learn from the first N training rows of each skill; 0: all", metavar="N")
    temperature: float = option(0.0, "of the old stack's answers; 0 takes the likeliest words")
    max_tokens: int = option(0, "the longest answer in tokens; 0: twice the longest that the rows have", metavar="N")
    max_batch: int = option(16, "answers written at the same time", metavar="N")
    learn: str = option(
        "auto",
        "what the old stack thought of every token (logits), of those that two tokenizers cut alike (aligned), or its "
        "words alone; auto: logits where the tokenizers agree, else the better of the other two in a short trial, and "
        "words where that cannot tell",
        choices=LEARN,
    )  # fmt: skip
    top_k: int = option(32, "with logits, tokens of which the old stack's probability is kept at each place")

    keep: float = option(0.9, "share of its gain over the old base that every skill must keep")
    check: str = option("auto", "how answers are checked; see nomoat judge --help", metavar="CHECK")
    limit: int = option(0, "judge the first N held-out rows of each skill; 0: all", metavar="N")

    rank: int = option(16, "rank of the new adapter")
    lr: float = option(5e-4, "peak learning rate")
    epochs: float = option(1.0, "passes over the rows")
    max_steps: int = option(0, "train this many steps, whatever the epochs say; 0: as they say")
    batch_size: int = option(8, "rows of one step")
    max_seq_len: int = option(1024, "tokens of the longest row, in either tokenizer")
    eval_rows: int = option(64, "held-out rows that choose the best checkpoint; 0: none")
    precision: str = option("auto", "arithmetic of the frozen matrices in training", choices=PRECISIONS)
    memory: str | None = option(None, "keep the process under this much memory", metavar="4G")
    threads: int = option(0, "processor threads of the training; 0: all cores")
    seed: int = option(0, "order of the rows, start of the adapter, what is sampled, the bootstrap")
    probe_seconds: float = option(15.0, "time for the measurements behind the prediction; 0: predict nothing")
    dry_run: bool = option(False, "print the prediction and stop")


_LEAST = {"rows": 0, "temperature": 0, "max_tokens": 0, "limit": 0, "keep": 0, "top_k": 1, "max_batch": 1}


def check(options: MoveOptions) -> None:
    """Raise ``UsageError`` on values and combinations that make no sense."""
    if not options.stack or not options.to:
        what = "--to" if options.stack else "STACK"
        raise UsageError(f"{what} is missing", hint="nomoat move BASE+ADAPTER --to NEWBASE")
    values = dataclasses.asdict(options)
    for name, least in _LEAST.items():
        if not values[name] >= least:
            raise UsageError(f"--{name.replace('_', '-')} cannot be {values[name]:g}", hint=f"give {least} or more")
    if options.dry_run and not options.probe_seconds:
        raise UsageError("--probe-seconds 0 measures nothing, so nothing can be predicted")
    if options.answers == "rows" and options.temperature:
        raise UsageError("--temperature is of the old stack's answers; --answers rows has none")
