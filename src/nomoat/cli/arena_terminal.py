"""The blind arena in a terminal: two answers, no names, a vote by a letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomoat.cli.environment import Environment

if TYPE_CHECKING:
    from nomoat.judge.arena import Arena
    from nomoat.judge.bout import Contestants

KEYS = {"1": "left", "2": "right", "t": "tie", "b": "both_bad"}
_ASK = "1 first is better, 2 second, t tie, b both bad, q leave (a note may follow): "


def vote(arena: Arena, contestants: Contestants, env: Environment, *, voter: str, limit: int) -> None:
    """Question after question until the voter leaves, or has cast ``limit`` votes."""
    from nomoat.judge.asked import typed
    from nomoat.judge.topics import all_said

    done = 0
    while not limit or done < limit:
        own = "" if arena.questions else _question(env)
        if not arena.questions and not own:
            return
        match = arena.match(typed(own) if own else None, voter=voter)
        asked = match.asked
        left, right = (contestants.talk(name, asked) for name in (match.left, match.right))
        question = all_said((asked.text, *asked.later))
        env.say(f"\n{question}\n\n--- 1 ---\n{left.whole}\n\n--- 2 ---\n{right.whole}\n")
        verdict, note = _verdict(env)
        if not verdict:
            return
        arena.vote(match.key, verdict, left, right, note=note, later=asked.later)
        env.say(f"1 was {match.left}, 2 was {match.right}")
        done += 1


def _question(env: Environment) -> str:
    env.say("question (empty: leave): ", end="")
    return env.stdin.readline().strip()


def _verdict(env: Environment) -> tuple[str, str]:
    """The vote and the note; an empty vote leaves."""
    while True:
        env.say(_ASK, end="")
        line = env.stdin.readline()
        word, _, note = line.strip().partition(" ")
        if not line or word == "q":
            return "", ""
        if word in KEYS:
            return KEYS[word], note.strip()
