"""Every error nomoat raises on purpose.

    NomoatError                 message, hint
    ├── UsageError              an option or a combination of options makes no sense
    ├── NotFound                no base, adapter, data set or file of that name
    ├── DataError               a row cannot be read: file, line, field
    ├── FormatError             a model file is damaged, hostile or of a kind we do not read
    │   ├── BadHeader           lengths, offsets or counts that cannot be true
    │   ├── ShapeMismatch       a tensor is missing or has another shape than the configuration says
    │   └── UnsupportedType     a tensor type, architecture or adapter kind outside our lists
    ├── TemplateError           a chat template fails, runs too long or refuses these messages
    ├── AdapterMismatch         the adapter belongs to another base
    ├── HashMismatch            a download is not the file that was promised
    ├── NetworkError            a source cannot be reached
    ├── StorageError            the disk is full, read-only or out of reach
    ├── ResourceError           needs more memory, disk or time than there is
    ├── Busy                    a service has as many requests waiting as it takes
    ├── NumericError            the loss or a gradient is not a number
    ├── ParityMismatch          what was exported would not say what was trained
    ├── SkillLost               a skill that was moved keeps less than was asked for
    └── Interrupted             stopped by the user; a checkpoint is left

The message says what and where; the hint is the command, or the one action, that mends it.
``cli.main`` turns the tree into text and exit codes; nothing else does.
"""

from __future__ import annotations

from pathlib import Path


class NomoatError(Exception):
    """Base of the tree. ``exit_code`` is what the command line returns for it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(NomoatError):
    exit_code = 2


class NotFound(NomoatError):
    exit_code = 3


class DataError(NomoatError):
    """A row that cannot be read; names the place as exactly as it is known."""

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        field: str | None = None,
        hint: str = "",
    ) -> None:
        place = str(file) if file is not None else ""
        if line is not None:
            place += f":{line}"
        if field is not None:
            place += f" field {field!r}"
        super().__init__(f"{place.strip()}: {message}" if place else message, hint=hint)
        self.file, self.line, self.field = file, line, field


class FormatError(NomoatError):
    """A model, adapter or configuration file that cannot be what it says it is."""

    exit_code = 5

    def __init__(self, message: str, *, file: Path | str | None = None, hint: str = "") -> None:
        super().__init__(f"{file}: {message}" if file is not None else message, hint=hint)
        self.file = file


class BadHeader(FormatError):
    pass


class ShapeMismatch(FormatError):
    pass


class UnsupportedType(FormatError):
    pass


class TemplateError(NomoatError):
    exit_code = 5


class AdapterMismatch(NomoatError):
    """An adapter was trained on another base; both are named."""

    exit_code = 6

    def __init__(self, adapter: str, *, expected: str, got: str, why: str, hint: str = "") -> None:
        super().__init__(
            f"adapter {adapter!r} was trained on {expected!r} and does not fit {got!r}: {why}",
            hint=hint or f"nomoat move {adapter} --to {got} takes its skills there",
        )
        self.expected, self.got = expected, got


class HashMismatch(NomoatError):
    exit_code = 7


class NetworkError(NomoatError):
    exit_code = 7


class StorageError(NomoatError):
    exit_code = 8


class ResourceError(NomoatError):
    """More is needed than there is; both amounts are in the message."""

    exit_code = 9


class Busy(NomoatError):
    """Come again later: nothing is wrong with the request."""

    exit_code = 9


class NumericError(NomoatError):
    exit_code = 10


class ParityMismatch(NomoatError):
    """Training and the exported artefact differ; the message names the first token, or the figure, that does."""

    exit_code = 11


class SkillLost(NomoatError):
    """A stack that was moved to another base lost more of a skill there than was let pass; it stays apart."""

    exit_code = 12


class Interrupted(NomoatError):
    """Stopped on purpose; ``hint`` holds the command that goes on from the checkpoint."""

    exit_code = 130
