"""The options of a tune: flags, configuration keys and the reference page are drawn from here."""

from __future__ import annotations

import dataclasses
import math

from nomoat.core.errors import UsageError
from nomoat.core.options import option, parse_size

# alpha / rank = 2 at every rank: a change of rank then leaves the size of an update, and so the right learning rate,
# about where it was. rsLoRA divides by sqrt(rank) and wants one alpha for all ranks: 8 is the same 2 at rank 16.
_ALPHA_PER_RANK = 2.0
_RSLORA_ALPHA = 8.0

METHODS = ("sft", "reward", "reward-head")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")


@dataclasses.dataclass(frozen=True, slots=True)
class TuneOptions:
    """How an adapter is trained. Every field is explained by its own help."""

    data: str = option("", "a data set's name, or a file or folder to make one from")
    base: str = option("", "the base model: a name in the store, a GGUF file or a Hugging Face folder", metavar="BASE")
    on: str = option(
        "", "instead of --base: a base and the adapters it wears while this one learns on top of them", metavar="STACK"
    )
    rehearse_skills: float = option(
        0.0, "with --on, share of rows that are the earlier adapters' own: rehearsed against forgetting"
    )
    orthogonal: float = option(0.0, "with --on, weight of a penalty against learning where the stack listens (O-LoRA)")
    keep_rows: int = option(0, "keep this many training rows with the adapter for later rehearsal; they travel with it")
    name: str = option("", "the name of the adapter", metavar="NAME")
    replace: bool = option(False, "replace an adapter of that name")

    method: str = option(
        "sft",
        "learn the answers; or, from the pairs that nomoat school keeps beside its rows, a reward model: an adapter "
        "and a head, or the head alone",
        choices=METHODS,
    )
    rank: int = option(16, "rank of the adapter")
    alpha: float | None = option(None, "strength of the update; twice the rank if not given (8 with rsLoRA)")
    target_modules: tuple[str, ...] = option(
        ("all-linear",), "what the adapter attaches to: all-linear, or names such as q_proj,v_proj", metavar="NAMES"
    )
    top_layers: int = option(
        0, "adapters on this many last layers only; the layers below run once for each row; 0: all layers", metavar="K"
    )
    prefix_cache: str = option(
        "float32",
        "with --top-layers, how what the layers below give is kept on disk while the run lasts: exactly, in half the "
        "space, or not at all (it is computed again at every use)",
        choices=("float32", "bf16", "none"),
    )
    use_rslora: bool = option(False, "scale by alpha / sqrt(rank), steadier at high ranks")
    use_dora: bool = option(False, "learn the size of each output apart from its direction; slower")
    rank_pattern: dict[str, float] | None = option(  # noqa: RUF009 - None is no mutable default
        None, "ranks of some modules: down_proj=32,q_proj=8", metavar="NAME=RANK"
    )
    alpha_pattern: dict[str, float] | None = option(None, "alphas of some modules", metavar="NAME=ALPHA")  # noqa: RUF009
    init: str = option("kaiming", "how the adapter starts", choices=("kaiming", "pissa"))

    lr: float = option(5e-4, "peak learning rate")
    lora_plus_ratio: float = option(1.0, "learning rate of lora_B over that of lora_A (LoRA+ uses 16)")
    schedule: str = option(
        "cosine", "course of the learning rate after the warm-up", choices=("cosine", "linear", "constant")
    )
    warmup: float = option(0.03, "warm-up as a fraction of all steps")
    weight_decay: float = option(0.0, "decoupled weight decay of AdamW")
    clip: float = option(1.0, "largest norm of the gradient; 0: no clipping")
    epochs: float = option(1.0, "passes over the rows; parts of one are fine")
    max_steps: int = option(0, "train this many steps, whatever the epochs say; 0: as they say")
    batch_size: int = option(8, "rows of one step")
    pack_tokens: int = option(2048, "tokens run through the model at once; changes memory, not what is learned")
    seed: int = option(0, "order of the rows and start of the adapter")

    max_seq_len: int = option(1024, "tokens of the longest row")
    over_length: str = option(
        "drop", "what becomes of longer rows; nothing is ever cut silently", choices=("drop", "truncate", "raise")
    )
    loss: str = option("completion", "learn the answers only, or all of the text", choices=("completion", "all"))

    chat: str = option("auto", "prompt/completion rows: as a chat, or raw one after the other", choices=("auto", "raw"))

    distil: bool = option(
        False, "learn the probabilities that a teacher left with the rows (see nomoat move), not their words alone"
    )

    rehearse: int = option(0, "mix in this many built-in general rows, against forgetting; they are not measured on")

    eval_rows: int = option(64, "held-out rows that choose the best checkpoint; 0: none")
    eval_every: int = option(0, "steps between held-out measurements; 0: about an eighth of the time goes there")
    patience: int = option(0, "stop after this many measurements without improvement; 0: never")

    precision: str = option(
        "auto",
        "arithmetic of the frozen matrices. bfloat16 and int8 are faster and are measured on your rows before they are "
        "used; auto is the one that the processor is quick at, otherwise float32",
        choices=PRECISIONS,
    )
    threads: int = option(0, "processor threads; 0: all cores. The same count gives the same bytes")
    minutes: float | None = option(None, "choose what can be done in this time")
    finish_by: str | None = option(None, "choose what can be done until this time of day", metavar="HH:MM")
    memory: str | None = option(None, "keep the process under this much memory", metavar="4G")
    probe_seconds: float = option(15.0, "time for the measurements behind the prediction; 0: predict nothing")
    dry_run: bool = option(False, "print the prediction and stop")

    @property
    def effective_alpha(self) -> float:
        """``alpha``, or its default for this rank."""
        if self.alpha is not None:
            return self.alpha
        return _RSLORA_ALPHA if self.use_rslora else _ALPHA_PER_RANK * self.rank

    @property
    def memory_bytes(self) -> int | None:
        """The bound of ``memory`` in bytes."""
        return parse_size(self.memory) if self.memory is not None else None


# name -> smallest value that makes sense, whether that value itself does
_LEAST: dict[str, tuple[float, bool]] = {
    "rank": (1, True),
    "top_layers": (0, True),
    "lr": (0, False),
    "lora_plus_ratio": (0, False),
    "warmup": (0, True),
    "weight_decay": (0, True),
    "clip": (0, True),
    "epochs": (0, False),
    "max_steps": (0, True),
    "rehearse_skills": (0, True),
    "orthogonal": (0, True),
    "keep_rows": (0, True),
    "batch_size": (1, True),
    "pack_tokens": (2, True),
    "max_seq_len": (16, True),
    "rehearse": (0, True),
    "eval_rows": (0, True),
    "eval_every": (0, True),
    "patience": (0, True),
    "threads": (0, True),
    "probe_seconds": (0, True),
}


def check(options: TuneOptions) -> None:
    """Raise ``UsageError`` on values and combinations that make no sense."""
    for name, (least, itself) in _LEAST.items():
        _check_least(name, float(dataclasses.asdict(options)[name]), least, itself)
    if options.warmup >= 1:
        raise UsageError(f"--warmup {options.warmup:g} leaves no step to learn", hint="give a fraction, such as 0.03")
    _check_stack(options)
    _check_reward(options)
    if options.distil and (options.rehearse or options.rehearse_skills or options.loss == "all"):
        raise UsageError(
            "--distil learns what a teacher thought of its answers, and of no other rows or words",
            hint="leave out --rehearse, --rehearse-skills and --loss all",
        )
    for name in ("data", "base") if options.dry_run else ("data", "base", "name"):
        if not dataclasses.asdict(options)[name] and not (name == "base" and options.on):
            what = "DATA" if name == "data" else f"--{name}"
            raise UsageError(f"{what} is missing", hint="nomoat tune DATA --base BASE --name NAME")
    if options.top_layers and "embed_tokens" in options.target_modules:
        raise UsageError("--top-layers leaves the embedding as it is", hint="take embed_tokens out of --target-modules")
    if options.minutes is not None and options.finish_by is not None:
        raise UsageError("--minutes and --finish-by both say when to end", hint="give one of them")
    if options.minutes is not None and options.minutes <= 0:
        raise UsageError(f"--minutes {options.minutes:g} is no time at all")
    needs_probe = (options.minutes, options.finish_by, options.memory, options.dry_run or None)
    if options.probe_seconds == 0 and any(value is not None for value in needs_probe):
        raise UsageError(
            "--probe-seconds 0 measures nothing, so nothing can be predicted",
            hint="leave --probe-seconds out, or --minutes, --finish-by, --memory and --dry-run",
        )
    if options.memory is not None and options.memory_bytes == 0:
        raise UsageError("--memory 0 is no memory at all", hint="write it as 4G or 512M")


def _check_stack(options: TuneOptions) -> None:
    """What only makes sense over a stack, or not over one."""
    if options.on and options.base:
        raise UsageError("--base and --on both name a base", hint="give --on BASE+ADAPTER alone")
    if options.on and options.top_layers:
        raise UsageError("--top-layers and --on: the layers below wear adapters", hint="leave one of them out")
    if not options.on and (options.rehearse_skills or options.orthogonal):
        raise UsageError("--rehearse-skills and --orthogonal need adapters to keep", hint="give --on BASE+ADAPTER")
    if options.rehearse_skills > 0.9:
        raise UsageError(
            f"--rehearse-skills {options.rehearse_skills:g} leaves too little to learn", hint="give at most 0.9"
        )


def _check_reward(options: TuneOptions) -> None:
    """What does not go with pairs of a better and a worse answer."""
    if options.method == "sft":
        return
    words = {
        "--distil": options.distil,
        "--rehearse": options.rehearse,
        "--rehearse-skills": options.rehearse_skills,
        "--keep-rows": options.keep_rows,
        "--loss all": options.loss == "all",
        "--chat raw": options.chat == "raw",
        "--use-dora": options.use_dora,
        "--orthogonal": options.orthogonal,
        "--lora-plus-ratio": options.lora_plus_ratio != 1.0,
    }
    wrong = [word for word, given in words.items() if given]
    if wrong:
        raise UsageError(f"--method {options.method} does not go with {', '.join(wrong)}", hint="leave that out")
    if options.batch_size % 2:
        raise UsageError(f"--batch-size {options.batch_size}: a pair is two rows", hint="give an even number")


def _check_least(name: str, value: float, least: float, itself: bool) -> None:
    if math.isfinite(value) and (value > least or (itself and value == least)):
        return
    word = "at least" if itself else "more than"
    raise UsageError(f"--{name.replace('_', '-')} cannot be {value:g}", hint=f"give {word} {least:g}")
