"""What a server may be told when it starts."""

from __future__ import annotations

import dataclasses

from nomoat.core.errors import UsageError
from nomoat.core.options import option

MAX_BODY_BYTES = 8 << 20
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True, slots=True)
class ServeOptions:
    """Options of ``nomoat serve``. Raises ``UsageError`` for values that make no sense."""

    host: str = option("127.0.0.1", "the address to listen on; 0.0.0.0 lets other machines in", metavar="ADDRESS")
    port: int = option(7860, "the port to listen on; 0 takes a free one", metavar="N")
    api_key: str = option("", "clients must send this key; needed where --host is not this machine", metavar="KEY")
    adapters: tuple[str, ...] = option((), "adapters to open at the start: a,b; others open when they are asked for")
    stacks: tuple[str, ...] = option((), "names for stacks: polite=chat:0.8+sql,terse=sql", metavar="NAME=STACK")
    adapter_folders: tuple[str, ...] = option((), "folders from which clients may load adapters by path", metavar="DIR")
    allow_origins: tuple[str, ...] = option((), "web pages that may call this server, by origin", metavar="URL")
    adapter_mb: int = option(1024, "memory for adapters, in MiB; the one unused for longest goes", metavar="MIB")
    deadline_s: float | None = option(None, "end a request after this many seconds", metavar="SECONDS")

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port cannot be {self.port}", hint="0 to 65535")
        if self.adapter_mb < 0:
            raise UsageError("--adapter-mb must be 0 or more", hint="with 0, only the adapter worn last is kept")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise UsageError("--deadline-s must be above 0")
        if self.host not in LOCAL_HOSTS and not self.api_key:
            raise UsageError(
                f"--host {self.host} lets other machines in, and there is no key",
                hint="add --api-key, or leave --host at 127.0.0.1",
            )
