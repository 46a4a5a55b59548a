"""What an arena in the browser may be told when it starts."""

from __future__ import annotations

import dataclasses
import re
import secrets

from nomoat.core.errors import UsageError
from nomoat.core.options import option
from nomoat.serve.options import LOCAL_HOSTS

_KEY = re.compile("[A-Za-z0-9_-]{8,}")
COOKIE = "nomoat_voter"


@dataclasses.dataclass(frozen=True, slots=True)
class ArenaOptions:
    """Options of ``nomoat arena`` in the browser. Raises ``UsageError`` for values that make no sense."""

    host: str = option("127.0.0.1", "the address to listen on; 0.0.0.0 lets other machines in", metavar="ADDRESS")
    port: int = option(7861, "the port to listen on; 0 takes a free one", metavar="N")
    voters: tuple[str, ...] = option(
        (), "who may vote: ann,ben; each gets a link with a key. ann=KEY gives the key", metavar="NAME,NAME"
    )
    judge: str = option(
        "", "a judge of this machine that may sit its exam on the votes, from the page of jobs", metavar="JUDGE"
    )
    hold: bool = option(False, "show both answers when both are complete, not while they are written")

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port cannot be {self.port}", hint="0 to 65535")
        if self.judge.startswith(("http://", "https://")):
            raise UsageError("--judge of an arena is on this machine", hint=f"nomoat exam {self.judge} votes:ARENA")
        if self.host not in LOCAL_HOSTS and not self.voters:
            raise UsageError(
                f"--host {self.host} lets other machines in, and nobody is named who may vote",
                hint="add --voters ann,ben: each gets a link with a key, or leave --host at 127.0.0.1",
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Voters:
    """Names by key. Without keys, all votes are ``alone``'s."""

    names: dict[str, str]
    alone: str

    def of(self, key: str) -> str:
        """Who holds a key that the guard let in."""
        return self.names.get(key, self.alone)


def voters_of(options: ArenaOptions, alone: str) -> Voters:
    """The voters, with a fresh key for each who has none. Raises ``UsageError`` for names or keys that cannot be."""
    names: dict[str, str] = {}
    for text in options.voters:
        name, equals, key = (word.strip() for word in text.partition("="))
        if not name or name in names.values() or (equals and key in names):
            raise UsageError(f"--voters: {text!r} is no voter, or stands twice", hint="--voters ann,ben")
        if equals and _KEY.fullmatch(key) is None:
            raise UsageError(
                f"--voters: the key of {name!r} is not 8 or more letters, digits, - and _",
                hint=f"leave it out, and {name} gets one",
            )
        names[key or secrets.token_urlsafe(16)] = name
    return Voters(names, alone)
