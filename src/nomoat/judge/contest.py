"""Contestants and what they are asked: questions from any file, answers from a model or from a file of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nomoat.core.errors import DataError, UsageError
from nomoat.core.store import Store
from nomoat.data.json_files import first_row
from nomoat.data.rows import Message, Row
from nomoat.engine.names import open_stack
from nomoat.judge import alpaca_eval, mt_bench
from nomoat.judge.measure import Measuring, Subject, answers
from nomoat.judge.task import held_out
from nomoat.judge.topics import Topic
from nomoat.model.template import prompt_ids

Said = Mapping[str, Sequence[str]]
"""Answers turn by turn under the topic's key."""


def read_topics(store: Store, data: str, limit: int = 0, references: str = "") -> list[Topic]:
    """The questions of a data set, a file of rows, MT-bench's ``question.jsonl`` or an AlpacaEval list.

    ``references``: MT-bench's file of right answers. Raises ``UsageError`` where nothing is asked, ``DataError``.
    """
    path = Path(data).expanduser()
    first = first_row(path) if data not in store.names("data") else {}
    if isinstance(first.get("turns"), list):
        known: Mapping[str, tuple[str, ...]] = {}
        if references:
            for said in mt_bench.read_answers(Path(references).expanduser()).values():
                known = {**known, **said}
        found = mt_bench.read_questions(path, known)
    elif references:
        raise UsageError("--references are for MT-bench's questions", hint="leave --references out")
    elif "instruction" in first and ("generator" in first or "output" not in first):
        found = alpaca_eval.read_prompts(path)
    else:
        found = _of_rows(held_out(store, data, limit).rows)
    if not found:
        raise UsageError(f"{data} asks nothing: it holds plain texts", hint="give rows with prompts")
    return found[:limit] if limit else found


def conversation_of(row: Row) -> tuple[Message, ...] | None:
    """A row's conversation up to what the user said last; ``None`` for a plain text."""
    if "prompt" in row:
        return ({"role": "user", "content": row["prompt"]},)
    messages: Sequence[Message] = row.get("messages", ())
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
    return tuple(messages[: last + 1]) if last is not None else None


def answers_file(name: str) -> Path | None:
    """The path of a contestant that is a file of answers, not a model."""
    path = Path(name).expanduser()
    return path if path.suffix in (".jsonl", ".json") and path.is_file() else None


def read_given(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Answers by model, of a file or a folder of either format. Raises ``DataError`` where there are none."""
    if (path / "model_answer").is_dir():
        found = mt_bench.read_answers(path / "model_answer")
    elif path.is_dir():
        found = {**alpaca_eval.read_outputs(path), **mt_bench.read_answers(path)}
    elif path.suffix == ".json":
        found = alpaca_eval.read_outputs(path)
    else:
        found = mt_bench.read_answers(path)
    if not found:
        raise DataError("holds no answers", file=path)
    return found


def contestant_name(name: str) -> str:
    """What a contestant is called: a file of answers by the model it names."""
    path = answers_file(name)
    return next(iter(read_given(path))) if path is not None else name


def answered(
    name: str, topics: Sequence[Topic], store: Store, *, max_tokens: int, max_batch: int
) -> Measuring[dict[str, tuple[str, ...]]]:
    """A contestant's answers to every topic it answers whole; a model writes them, turn after turn.

    Raises ``NotFound``, ``UsageError``; ``DataError`` for a file of several models, or without one answer to these.
    """
    path = answers_file(name)
    if path is None:
        return (yield from _written(name, topics, store, max_tokens, max_batch))
    models = read_given(path)
    if len(models) > 1:
        raise DataError(f"holds answers of {len(models)} models", file=path, hint="nomoat rank compares many")
    found = chosen(topics, next(iter(models.values())))
    if not found:
        raise DataError("answers none of these questions", file=path, hint="give the questions that were asked")
    return found


def chosen(topics: Sequence[Topic], said: Said) -> dict[str, tuple[str, ...]]:
    """The answers to these topics, those that were answered to the end."""
    found = {topic.key: tuple(said[topic.key]) for topic in topics if topic.key in said}
    return {topic.key: found[topic.key] for topic in topics if len(found.get(topic.key, ())) >= topic.turns}


def _written(
    name: str, topics: Sequence[Topic], store: Store, max_tokens: int, max_batch: int
) -> Measuring[dict[str, tuple[str, ...]]]:
    base, worn = open_stack(store, name)
    subject = Subject(base, worn, name, store)
    said: dict[str, tuple[str, ...]] = {topic.key: () for topic in topics}
    for turn in range(max(topic.turns for topic in topics)):
        going = [topic for topic in topics if topic.turns > turn]
        asked = [topic.conversation(said[topic.key]) for topic in going]
        prompts = [prompt_ids(base.tokenizer, base.template, messages) for messages in asked]
        room = base.decoder.config.max_seq_len
        kept = [place for place, prompt in enumerate(prompts) if len(prompt) + max_tokens <= room]
        texts = yield from answers(
            subject, [prompts[place] for place in kept], max_tokens=max_tokens, max_batch=max_batch
        )
        for place, text in zip(kept, texts):
            said[going[place].key] += (text,)
    return {topic.key: said[topic.key] for topic in topics if len(said[topic.key]) == topic.turns}


def _of_rows(rows: Sequence[Row]) -> list[Topic]:
    asked = [(number, conversation_of(row)) for number, row in enumerate(rows)]
    return [Topic(str(number), "", messages) for number, messages in asked if messages is not None]
