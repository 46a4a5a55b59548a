"""The blind arena over HTTP. Before a vote, only the two texts depend on which model stands where."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from nomoat.core.errors import NomoatError
from nomoat.judge.arena import LONGEST_NOTE, Outcome
from nomoat.judge.asked import typed
from nomoat.judge.leaderboard import Leaderboard, leaderboard
from nomoat.judge.leaderboard_page import render_leaderboard
from nomoat.judge.leaderboard_text import FORMS
from nomoat.judge.vote_exports import EXPORTS
from nomoat.judge.votes import Answer
from nomoat.serve.arena_options import COOKIE
from nomoat.serve.body import read_body
from nomoat.serve.bout import Bout, Ready
from nomoat.serve.desk import aside
from nomoat.serve.errors import RequestError, openai_body
from nomoat.serve.events import SSE_TYPE, sse
from nomoat.serve.fields import Fields
from nomoat.serve.page import PAGE_HEADERS
from nomoat.serve.room import Room
from nomoat.serve.stream import Streamed
from nomoat.serve.talk import Talk

_YEAR_S = 365 * 24 * 3600
_FILES: Final = {
    "csv": ("Ratings as CSV", ".csv"),
    "markdown": ("Markdown", ".md"),
    "json": ("JSON", ".json"),
    "voters": ("Agreement as CSV", ".csv"),
    "fastchat": ("Votes as FastChat's log", ".jsonl"),
    "preferences": ("Votes as preference rows", ".jsonl"),
}
Verdict = Literal["left", "right", "tie", "both_bad"]


class MatchBody(Fields):
    prompt: Annotated[str, Field(max_length=20_000)] | None = None


class TurnBody(Fields):
    """A further question to both sides of a match that is shown."""

    key: Annotated[str, Field(max_length=64)]
    prompt: Annotated[str, Field(max_length=20_000)]


class VoteBody(Fields):
    """``key`` of a match that is shown, or ``replaces``: the number of a vote of one's own."""

    key: Annotated[str, Field(max_length=64)] = ""
    replaces: int | None = None
    verdict: Verdict
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""


def routes(room: Room) -> APIRouter:
    """The endpoints."""
    router = APIRouter()
    _add_voting(router, room)
    _add_matches(router, room)
    _add_results(router, room)
    return router


def _add_voting(router: APIRouter, room: Room) -> None:
    """Who votes, how far the votes are, and the votes."""

    @router.get("/join/{key}")
    async def join(key: str) -> Response:
        if key not in room.voters.names:
            raise RequestError("this link is not valid: ask for a new one", status=401, code="invalid_api_key")
        reply = RedirectResponse("/", status_code=303)
        reply.set_cookie(COOKIE, key, max_age=_YEAR_S, httponly=True, samesite="strict")
        return reply

    @router.get("/arena/state")
    async def state(http: Request) -> dict[str, Any]:
        async with room.lock:
            return await aside(_state, room, room.voter(http))

    @router.post("/arena/vote")
    async def vote(http: Request) -> dict[str, Any]:
        body, voter = await read_body(http, VoteBody), room.voter(http)
        async with room.lock:
            outcome, costs = await aside(_vote, room, body, voter)
            return {**_told(outcome), **costs, "state": await aside(_state, room, voter)}


def _add_matches(router: APIRouter, room: Room) -> None:
    """Two answers side by side, and further turns of the same conversation."""

    @router.post("/arena/match")
    async def match(http: Request) -> Response:
        body, voter = await read_body(http, MatchBody), room.voter(http)
        asked = typed(body.prompt) if body.prompt is not None else None
        async with room.lock:
            found = await aside(lambda: room.arena.match(asked, voter=voter))
        talk = Talk(found, found.asked)
        head = {"key": found.key, "prompt": list(found.asked.opening)}
        return _streamed(room, talk, talk.bout(room.contestants, room.ahead), head)

    @router.post("/arena/turn")
    async def turn(http: Request) -> Response:
        body, voter = await read_body(http, TurnBody), room.voter(http)
        before = room.shown(body.key, voter)
        talk = before.going_on(body.prompt)
        bout = talk.bout(room.contestants, room.ahead)
        del room.answered[body.key]  # until both have answered again, or one of them could not
        return _streamed(room, talk, bout, _head(talk), before)


def _add_results(router: APIRouter, room: Room) -> None:
    """What the votes say, as a page and as files."""

    @router.get("/leaderboard")
    async def standing() -> Response:
        async with room.lock:
            board = await aside(_board, room)
        return Response(await aside(_page, board), media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)

    @router.get("/arena/export/{form}")
    async def exported(form: str) -> Response:
        async with room.lock:
            text, name = await aside(_export, room, form)
        kind = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return Response(text, media_type="text/plain; charset=utf-8", headers=kind)


def _board(room: Room) -> Leaderboard:
    return leaderboard(room.arena.name, room.arena.votes(), room.arena.models)


def _page(board: Leaderboard) -> str:
    links = {"Back to voting": "/"} | {words: f"/arena/export/{form}" for form, (words, _) in _FILES.items()}
    return render_leaderboard(board, links=links)


def _export(room: Room, form: str) -> tuple[str, str]:
    """The file and its name. Raises ``RequestError`` for an unknown form."""
    if form not in _FILES:
        raise RequestError(f"no export {form[:40]!r}", status=404, code="not_found", hint=", ".join(_FILES))
    _, ending = _FILES[form]
    if form in FORMS:
        return FORMS[form](_board(room)), f"{'voters' if form == 'voters' else 'leaderboard'}{ending}"
    rows = EXPORTS[form](room.arena.votes())
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), f"{form}{ending}"


def _state(room: Room, voter: str) -> dict[str, Any]:
    """What a voter may know before the vote: no names, no score."""
    votes = room.arena.votes()
    progress = room.arena.progress()
    return {
        "arena": room.arena.name,
        "voter": voter,
        "questions": len(room.arena.questions),
        "votes": progress.votes,
        "mine": sum(vote.voter == voter for vote in votes),
        "settled": progress.settled == progress.pairs,
        "progress": progress.sentence,
    }


def _vote(room: Room, body: VoteBody, voter: str) -> tuple[Outcome, dict[str, Any]]:
    if body.replaces is not None:
        return room.arena.vote_again(body.replaces, body.verdict, voter=voter, note=body.note), {}
    talk = room.shown(body.key, voter)
    left, right = talk.answers
    later = talk.asked.later
    outcome = room.arena.vote(body.key, body.verdict, left, right, note=body.note.strip(), later=later)
    del room.answered[body.key]
    return outcome, {"costs": {"left": _cost(left), "right": _cost(right)}}


def _told(outcome: Outcome) -> dict[str, Any]:
    return {"vote": outcome.number, "left": outcome.left, "right": outcome.right}


def _cost(answer: Answer) -> dict[str, float]:
    return {"tokens": answer.tokens, "seconds": round(answer.seconds, 2)}


def _head(talk: Talk) -> dict[str, Any]:
    """What a turn after the first begins with."""
    number, text = talk.turn
    return {"turn": number, "prompt": text}


def _streamed(room: Room, talk: Talk, bout: Bout | Ready, head: dict[str, Any], before: Talk | None = None) -> Streamed:
    return Streamed(_stream(room, talk, bout, head, before), SSE_TYPE)


async def _stream(
    room: Room, talk: Talk, bout: Bout | Ready, head: dict[str, Any], before: Talk | None
) -> AsyncGenerator[bytes, None]:
    """Turn after turn, both answers at one pace. An error does not say whose it is; ``before`` can be voted on then."""
    try:
        yield sse(head)
        while True:
            async for frame in bout.frames(hold=room.options.hold):
                yield sse(frame)
            talk = talk.after(bout)
            if talk.complete:
                break
            yield sse(_head(talk))
            bout = talk.bout(room.contestants, room.ahead)
        before = talk
        yield sse({"whole": True})
    except NomoatError as error:
        yield sse(openai_body(error))
    finally:
        bout.close()
        if before is not None:
            room.remember(before)
