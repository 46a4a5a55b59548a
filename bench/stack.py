"""Skills stacked, against naive sums, PEFT's combination and one joint tune; and many updates in a row.

    python bench/stack.py skills  --model smollm2 --skill sql=rows.jsonl --skill french=fr.jsonl --skill maths=gsm.jsonl
    python bench/stack.py skills  --home runs --skill sql --skill french --skill maths --only "searched by core"
    python bench/stack.py updates --model smollm2 --skill sql=rows.jsonl --skill french=fr.jsonl --updates 20

``skills``: each skill is tuned apart on ``--rows`` rows, once more all of them together at the same rank, and every way
of putting them together is measured on each skill's test rows: loss, and the share that is left of what the adapter
gains alone, with 95 % bootstrap intervals over rows. With ``--home`` what was tuned and found stays there, and what is
there is not tuned again and needs no file. ``updates``: adapters one after the other, each over the stack of
all before it, which is compressed as it grows; with and without rehearsal and the orthogonality penalty: what is left
of every earlier skill, the stack's size and its effective rank. Both end with a JSON line of all figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import models  # noqa: E402
import reference  # noqa: E402
from nomoat.core.records import Done, Record  # noqa: E402
from nomoat.core.store import Store  # noqa: E402
from nomoat.data.add import AddOptions, add  # noqa: E402
from nomoat.data.json_files import read_values  # noqa: E402
from nomoat.data.load import load_rows  # noqa: E402
from nomoat.engine.names import Worn, open_stack  # noqa: E402
from nomoat.engine.score import score  # noqa: E402
from nomoat.kernels.quick import quick_products  # noqa: E402
from nomoat.model.load import Base  # noqa: E402
from nomoat.model.template import Encoded  # noqa: E402
from nomoat.stack.compress import spectrum_of  # noqa: E402
from nomoat.stack.job import OpenStack, open_parts, stack  # noqa: E402
from nomoat.stack.options import GRAINS, CombineOptions, SkillOptions  # noqa: E402
from nomoat.stack.search import search  # noqa: E402
from nomoat.stack.update import updates_of  # noqa: E402
from nomoat.train.options import TuneOptions  # noqa: E402
from nomoat.train.rehearsal import encode_as_learned  # noqa: E402
from nomoat.train.tune import tune  # noqa: E402

DRAWS = 2000
KEEPING: dict[str, dict[str, Any]] = {
    "plain": {},
    "rehearsal": {"rehearse_skills": 0.25},
    "orthogonal": {"orthogonal": 0.5},
}


def finish(records: Iterable[Record]) -> dict[str, Any]:
    """Run a stage to its end and return its result."""
    result: dict[str, Any] = {}
    for record in records:
        if isinstance(record, Done):
            result = record.result
    return result


def add_rows(store: Store, name: str, rows: list[Any], folder: Path) -> None:
    """A data set of raw rows in whatever shape they came."""
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    finish(add(AddOptions(paths=(str(file),), name=name, test=0.15, valid=0.1), store))


def read_skill(text: str, seed: int) -> tuple[str, list[Any]]:
    """``name=file``: all rows, shuffled."""
    name, _, path = text.partition("=")
    file = Path(path)
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        rows = [row for _, row in read_values(file)]
    random.Random(seed).shuffle(rows)
    return name, rows


def options(args: argparse.Namespace, **changes: Any) -> TuneOptions:
    """The same settings for every tune of a run."""
    plain = {"rank": args.rank, "lr": args.lr, "epochs": args.epochs, "eval_rows": args.limit, "max_seq_len": 512}
    fixed = {"probe_seconds": 0.0, "threads": args.threads, "seed": args.seed, "batch_size": args.batch_size}
    return TuneOptions(**{**plain, **fixed, **changes})


def test_rows(store: Store, base: Base, name: str, limit: int) -> list[Encoded]:
    """Encoded test rows of a skill; the adapter of the same name says how it was learned."""
    rows = load_rows(store.find("data", name), "test")[:limit]
    return list(encode_as_learned(base, store.path("adapters", name), rows, longest=512))


def row_losses(base: Base, rows: list[Encoded], worn: Worn) -> np.ndarray:
    """(rows, 2): summed loss and tokens."""
    return np.array([[-one.total, len(one.logprobs)] for one in score(base, rows, worn)])


def mean(losses: np.ndarray) -> float:
    """Nats a token."""
    return float(losses[:, 0].sum() / losses[:, 1].sum())


def share_kept(bare: np.ndarray, alone: np.ndarray, found: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Share of the skill's own gain that is left, and its 95 % interval over paired rows."""
    rng = np.random.default_rng(seed)

    def share(places: np.ndarray) -> float:
        before, own, now = (mean(each[places]) for each in (bare, alone, found))
        return (before - now) / (before - own)

    every = np.arange(len(bare))
    drawn = [share(rng.choice(every, len(every))) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return share(every), float(low), float(high)


def peft_combination(args: argparse.Namespace, store: Store, names: list[str], target: Path) -> Path:
    """What ``add_weighted_adapter(combination_type="linear")`` makes of the adapters at weight 1."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(reference.hf_folder(args.model), dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, store.path("adapters", names[0]), adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(store.path("adapters", name), adapter_name=name)
    model.base_model.add_weighted_adapter(names, [1.0] * len(names), "combined", combination_type="linear")
    model.save_pretrained(target, selected_adapters=["combined"])
    return target / "combined"


def skills(args: argparse.Namespace, store: Store, folder: Path) -> dict[str, Any]:
    """The table of ways to put skills together."""
    path = str(models.path(args.model))
    names = [text.partition("=")[0] for text in args.skill]
    for text in args.skill:
        name, given, _ = text.partition("=")
        if given and name not in store.names("data"):
            add_rows(store, name, read_skill(text, args.seed)[1][: args.rows], folder)
        tuned(args, store, name)
    if "joint" not in store.names("data"):
        everything = [dict(row) for name in names for row in load_rows(store.find("data", name), "train")]
        add_rows(store, "joint", everything, folder)
    tuned(args, store, "joint")
    parts = open_parts(store, names, path)
    ranks = args.rank if args.use_dora else 0  # of what is exact without one, but for DoRAs
    made = {"ties": CombineOptions(method="ties", rank=args.rank)}
    made["knots"] = CombineOptions(method="knots_ties", rank=ranks)
    for name, how in made.items():
        if name not in store.names("adapters"):
            finish(stack(parts, how, store, name=name))
    ways = {"each alone": "", "naive sum": "+".join(names)}
    ways |= {f"searched by {grain}": f"by-{grain}" for grain in GRAINS}
    ways |= {"ties": "ties", "knots ties": "knots", "joint tune": "joint"}
    if args.peft and not args.use_dora:  # PEFT adds no DoRAs up
        ways["peft linear"] = str(folder / "peft" / "combined")
    ways = {way: spec for way, spec in ways.items() if not args.only or way in args.only}
    searches = {grain: searched(args, store, parts, grain) for grain in GRAINS if f"searched by {grain}" in ways}
    if "peft linear" in ways:
        peft_combination(args, store, names, folder / "peft")
    return {"searches": searches, "ways": _table(args, store, path, names, ways)}


def tuned(args: argparse.Namespace, store: Store, name: str) -> None:
    """An adapter for the data set of its name, unless it is there."""
    if name not in store.names("adapters"):
        wanted = options(args, data=name, base=str(models.path(args.model)), name=name, use_dora=args.use_dora)
        finish(tune(wanted, store))


def searched(args: argparse.Namespace, store: Store, parts: OpenStack, grain: str) -> dict[str, Any]:
    """Search for weights of that grain and keep the stack as ``by-GRAIN``."""
    how = SkillOptions(limit=args.limit, budget=args.budget, grain=grain, gradient_steps=args.gradient_steps)
    stacks: list[OpenStack] = []

    def searching() -> Generator[Record]:
        stacks.append((yield from search(parts, dataclasses.replace(how, minutes=args.minutes), store)))

    found = finish(searching())
    finish(stack(stacks[0], CombineOptions(), store, name=f"by-{grain}", replace=True))
    said = ("weights", "kept_valid", "kept_test", "seconds", "predicted_s")
    print(grain, {key: found[key] for key in said}, flush=True)
    return {key: found[key] for key in said}


def _table(args: argparse.Namespace, store: Store, path: str, names: list[str], ways: dict[str, str]) -> dict[str, Any]:
    base, _ = open_stack(store, path)
    rows = {name: test_rows(store, base, name, args.limit) for name in names}
    bare = {name: row_losses(base, rows[name], ()) for name in names}
    alone = {name: row_losses(base, rows[name], open_stack(store, f"{path}+{name}")[1]) for name in names}
    table: dict[str, Any] = {}
    for way, spec in ways.items():
        table[way] = {}
        for name in names:
            worn = open_stack(store, f"{path}+{spec or name}")[1]
            losses = row_losses(base, rows[name], worn)
            share, low, high = share_kept(bare[name], alone[name], losses, args.seed)
            table[way][name] = {"loss": mean(losses), "kept": share, "low": low, "high": high}
        cells = "  ".join(
            f"{name} {each['loss']:.4f} {each['kept']:7.1%} ({each['low']:.0%} to {each['high']:.0%})"
            for name, each in table[way].items()
        )
        print(f"{way:<18}{cells}", flush=True)
    return table


def updates(args: argparse.Namespace, store: Store, folder: Path) -> dict[str, Any]:
    """Updates one after the other, once for each way of keeping what was learned."""
    sources = [read_skill(text, args.seed) for text in args.skill]
    names = []
    for number in range(args.updates):
        source, rows = sources[number % len(sources)]
        start = number // len(sources) * args.rows
        names.append(f"{source}-{number}")
        add_rows(store, names[-1], rows[start : start + args.rows], folder)
    return {way: _one_after_the_other(args, store, names, way, KEEPING[way]) for way in args.way or KEEPING}


def _one_after_the_other(
    args: argparse.Namespace, store: Store, names: list[str], way: str, changes: dict[str, Any]
) -> list[dict[str, Any]]:
    path, on = str(models.path(args.model)), ""
    history: list[dict[str, Any]] = []
    own: dict[str, float] = {}
    for number, name in enumerate(names):
        began, new = time.perf_counter(), f"{way}-{number}"
        under = {"on": f"{path}+{on}", **changes} if on else {"base": path}
        finish(tune(options(args, data=name, name=new, **under), store))
        if on:
            whole = f"{way}-stack-{number}"
            how = CombineOptions(rank=args.stack_rank, energy=args.energy)
            made = finish(stack(open_parts(store, [on, new], path), how, store, name=whole))
            on, size = whole, made["adapter_parameters"]
        else:
            on, size = new, 0
        base, worn = open_stack(store, f"{path}+{on}")
        done = names[: number + 1]
        with quick_products():  # scores of every earlier skill after every update, compared with each other only
            now = {each: mean(row_losses(base, test_rows(store, base, each, args.limit), worn)) for each in done}
        own[name] = now[name]
        ranks = [spectrum_of(update).effective_rank for update in updates_of(worn[0][0]).values()]
        worse = [now[each] - own[each] for each in names[:number]]
        history.append({"update": number, "losses": now, "parameters": size, "effective_rank": statistics.mean(ranks)})
        forgotten = f"{statistics.mean(worse):+.4f} nats on {number} earlier skills" if worse else ""
        figures = f"effective rank {statistics.mean(ranks):5.1f}  {size / 1e6:6.2f} M  {forgotten}"
        print(f"{way:<11}{number:3}  {time.perf_counter() - began:6.0f} s  {figures}", flush=True)
    return history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("skills", "updates"))
    parser.add_argument("--model", default="smollm2", choices=tuple(models.PACKAGES))
    parser.add_argument("--skill", action="append", required=True, metavar="NAME[=FILE]", help="rows of any shape")
    parser.add_argument("--rows", type=int, default=800, help="rows of a skill, or of one update")
    parser.add_argument("--limit", type=int, default=64, help="rows that are measured")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--way", action="append", choices=tuple(KEEPING), help="of updates: one of them only")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--stack-rank", type=int, default=64, help="highest rank of the growing stack")
    parser.add_argument("--energy", type=float, default=0.9999, help="share of its energy that compression keeps")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--budget", type=int, default=12, help="of a search: weightings tried without a gradient")
    parser.add_argument("--gradient-steps", type=int, default=60)
    parser.add_argument("--minutes", type=float, help="of each search")
    parser.add_argument("--use-dora", action="store_true", help="of skills: tune DoRAs")
    parser.add_argument("--only", action="append", metavar="WAY", help="of skills: these rows of the table alone")
    parser.add_argument("--home", type=Path, help="keep data sets and adapters here, and take those that are here")
    parser.add_argument("--peft", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(args.home or Path(folder) / "home")
        result = {"skills": skills, "updates": updates}[args.what](args, store, Path(folder))
    print(json.dumps({"what": args.what, "options": vars(args), "result": result}, default=str))


if __name__ == "__main__":
    main()
