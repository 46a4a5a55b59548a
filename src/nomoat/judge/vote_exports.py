"""Votes as others read them: FastChat's logs, and rows of preferences to align with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from nomoat.data.rows import Message
from nomoat.judge.votes import Answer, Vote


def fastchat_rows(cast: Sequence[Vote]) -> Iterator[dict[str, Any]]:
    """The votes as FastChat writes its battles; ``judge`` is the voter."""
    for vote in cast:
        yield {
            "model_a": vote.model_a,
            "model_b": vote.model_b,
            "winner": vote.winner.replace("both_bad", "tie (bothbad)"),
            "judge": vote.voter,
            "turn": sum(message["role"] == "user" for message in vote.prompt),
            "anony": True,
            "conversation_a": _conversation(vote, vote.answer_a),
            "conversation_b": _conversation(vote, vote.answer_b),
            "tstamp": datetime.fromisoformat(vote.at).timestamp(),
        }


def preference_rows(cast: Sequence[Vote]) -> Iterator[dict[str, Any]]:
    """The votes with a winner as rows to align with: ``prompt``, ``chosen``, ``rejected``, all as messages.

    Of several turns, ``chosen`` and ``rejected`` hold all that followed the prompt, the user's turns among it (TRL).
    Such a row is no labelled pair of last answers, which belong to different conversations; ``votes:ARENA`` is.
    """
    for vote in cast:
        if vote.winner in ("model_a", "model_b"):
            sides = [_conversation(vote, each)[len(vote.prompt) :] for each in (vote.answer_a, vote.answer_b)]
            better, worse = sides if vote.winner == "model_a" else sides[::-1]
            yield {"prompt": list(vote.prompt), "chosen": better, "rejected": worse}


def _conversation(vote: Vote, answer: Answer) -> list[Message]:
    """All turns of one side."""
    said = (answer.text, *answer.later)
    return [*vote.topic.conversation(said[:-1]), {"role": "assistant", "content": said[-1]}]


EXPORTS: Final = {"fastchat": fastchat_rows, "preferences": preference_rows}
