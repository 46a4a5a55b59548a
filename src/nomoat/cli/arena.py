"""``nomoat arena A B --data QUESTIONS``: two answers, no names, your vote; in the browser, or in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nomoat.cli import arena_terminal
from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.run import add_sampling_flags
from nomoat.cli.tables import print_table
from nomoat.core.amounts import counted
from nomoat.engine.sampling import Sampling

if TYPE_CHECKING:
    from nomoat.judge.arena import Arena

_EXPORTS = ("fastchat", "preferences", "json", "csv", "markdown", "voters")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models, the questions, who votes where, and what to do with the votes."""
    from nomoat.serve.arena_options import ArenaOptions

    parser.add_argument("models", nargs="*", metavar="MODEL", help="two or more: bases, adapters or stacks")
    parser.add_argument(
        "--data", default="", metavar="NAME|PATH",
        help="questions: a data set (its test rows), or a file of questions; without it you type them",
    )  # fmt: skip
    parser.add_argument("--name", default="arena", help="under which name the votes are kept [arena]")
    parser.add_argument("--terminal", action="store_true", help="vote here instead of in the browser")
    parser.add_argument("--voter", default="me", help="who votes, where --voters names nobody [me]")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="with --terminal: stop after N votes")
    parser.add_argument("--standing", action="store_true", help="only print the ratings so far")
    parser.add_argument("--export", choices=_EXPORTS, help="only print the votes, or the leaderboard, in this form")
    parser.add_argument("--report", metavar="PATH", help="only write the leaderboard as one self-contained HTML page")
    add_flags(parser, ArenaOptions, group="the page")
    add_sampling_flags(parser)


def run(args: argparse.Namespace, env: Environment) -> int:
    """Vote, or print what the votes say."""
    if args.export or args.report:
        return _export(args, env)
    arena = _arena(args, env)
    if args.terminal and not args.standing:
        from nomoat.judge.bout import Contestants

        contestants = Contestants(env.store, arena.models, read_flags(args, Sampling))
        with contextlib.closing(contestants):
            arena_terminal.vote(arena, contestants, env, voter=args.voter, limit=args.limit)
    elif not args.standing:
        _serve(arena, args, env)
    _print_standing(arena, env, as_json=args.json)
    return 0


def _export(args: argparse.Namespace, env: Environment) -> int:
    """Print the votes or the leaderboard, or write the page."""
    from nomoat.judge.leaderboard import leaderboard
    from nomoat.judge.leaderboard_page import write_leaderboard
    from nomoat.judge.leaderboard_text import FORMS
    from nomoat.judge.vote_exports import EXPORTS
    from nomoat.judge.votes import models_of, votes_in

    found = votes_in(env.store, args.name)
    if args.export in EXPORTS:
        for row in EXPORTS[args.export](found):
            env.print(json.dumps(row, ensure_ascii=False))
        return 0
    board = leaderboard(args.name, found, args.models or models_of(found))
    if args.report:
        write_leaderboard(Path(args.report).expanduser(), board)
        env.say(f"wrote {args.report}: {counted(board.votes, 'vote')}")
    if args.export:
        env.print(FORMS[args.export](board), end="")
    return 0


def _arena(args: argparse.Namespace, env: Environment) -> Arena:
    from nomoat.judge.arena import Arena
    from nomoat.judge.asked import questions_of
    from nomoat.judge.votes import models_of, votes_in

    models = args.models
    if args.standing and not models:
        models = models_of(votes_in(env.store, args.name))
    questions = questions_of(env.store, args.data) if args.data and not args.standing else []
    return Arena(env.store, args.name, models, questions)


def _serve(arena: Arena, args: argparse.Namespace, env: Environment) -> None:
    """Let people vote in their browsers until Ctrl-C."""
    from nomoat.judge.bout import Contestants
    from nomoat.serve.arena_options import ArenaOptions, voters_of
    from nomoat.serve.arena_run import links, opened_arena
    from nomoat.serve.run import listening

    options = read_flags(args, ArenaOptions)
    voters = voters_of(options, args.voter)
    with listening(options.host, options.port) as listener:
        contestants = Contestants(env.store, arena.models, read_flags(args, Sampling))
        with opened_arena(arena, contestants, options, voters) as server:
            _greet(links(listener, options, voters), env, as_json=args.json)
            # uvicorn ends every answer and raises the signal again: nothing comes of it where they are ignored (nohup)
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listener])
    env.say("\nstopped")


def _greet(addresses: dict[str, str], env: Environment, *, as_json: bool) -> None:
    if as_json:
        env.print(json.dumps({"record": "serving", "links": addresses}, ensure_ascii=False))
        return
    env.say(
        "vote in the browser; every voter has a link of their own:" if len(addresses) > 1 else "vote in the browser:"
    )
    for name, address in addresses.items():
        env.say(f"  {name}  {address}" if len(addresses) > 1 else f"  {address}")
    env.say("Ctrl-C stops it and prints the ratings.")


def _print_standing(arena: Arena, env: Environment, *, as_json: bool) -> None:
    """Ratings with intervals, and which pairs can be told apart."""
    ratings = arena.ratings()
    if ratings is None:
        if as_json:
            env.print(json.dumps({"record": "standing", "ratings": [], "told": []}))
        else:
            env.say("no votes yet")
        return
    told = arena.told()
    if as_json:
        rows = [{"model": name, **rating.as_dict()} for name, rating in zip(ratings.models, ratings.ratings)]
        env.print(json.dumps({"record": "standing", "ratings": rows, "told": [each.sentence for each in told]}))
        return
    table = [
        [name, f"{rating.value:.0f}", f"{rating.low:.0f} to {rating.high:.0f}", f"{met.sum():g}"]
        for name, rating, met in zip(ratings.models, ratings.ratings, ratings.battles)
    ]
    print_table(env, ("model", "rating", "95 % interval", "battles"), table)
    for each in told:
        env.print(each.sentence)
