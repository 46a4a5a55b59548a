"""From a word to the model file it means: a name in the store, a GGUF file, or a Hugging Face folder.

A base in the store is ``bases/<name>/model.gguf``, or the files of a Hugging Face folder, or (for a linked
local file) only ``nomoat.json``, whose ``details.path`` says where the file lies.
"""

from __future__ import annotations

from pathlib import Path

from nomoat.core.errors import HashMismatch, NotFound
from nomoat.core.files import disk_errors
from nomoat.core.store import Kind, Lineage, Store, read_lineage

GGUF_NAME = "model.gguf"
GGUF_MAGIC = b"GGUF"
_KINDS: tuple[Kind, ...] = ("bases", "models")


def resolve_base(store: Store, spec: str) -> Path:
    """The GGUF file or Hugging Face folder that ``spec`` means; names in the store come before paths.

    A name may have its kind in front (``models/tiny``), and a pulled base answers to its catalogue aliases.
    Raises ``NotFound`` with near matches, ``HashMismatch`` where a linked file changed since it was pulled.
    """
    for kind in _KINDS:
        name = spec.removeprefix(f"{kind}/")
        if name in store.names(kind):
            return stored_model(store.path(kind, name))
    if not looks_like_path(spec):
        for name in store.names("bases"):
            lineage = read_lineage(store.path("bases", name))
            if lineage is not None and spec in lineage.details.get("aliases", ()):
                return stored_model(store.path("bases", name))
    path = Path(spec).expanduser()
    if is_model(path):
        return path.absolute()
    if looks_like_path(spec) or path.exists():
        raise NotFound(
            f"{spec}: {_what_it_lacks(path)}",
            hint="give a .gguf file, a folder with config.json and safetensors, or a name of `nomoat ls`",
        )
    return store.find("bases", spec)  # raises, with near matches and `nomoat pull`


def _what_it_lacks(path: Path) -> str:
    if not path.exists():
        return "no such file"
    if not path.is_dir():
        return "not a GGUF file"
    with disk_errors(path):
        pickled = [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")]
    if not (path / "config.json").is_file():
        return "not a model folder: it has no config.json"
    said = f"; {pickled[0].name} may hold code and is not read" if pickled else ""
    return f"not a model folder: it has no *.safetensors{said}"


def looks_like_path(spec: str) -> bool:
    """Whether a word can only be a path: it has a separator, begins with ``.`` or ``~``, or ends in .gguf."""
    return "/" in spec or "\\" in spec or spec.startswith((".", "~")) or spec.lower().endswith(".gguf")


def is_model(path: Path) -> bool:
    """Whether a path holds a model by its looks: the GGUF magic, or config.json beside safetensors."""
    with disk_errors(path):
        if path.is_dir():
            return (path / "config.json").is_file() and any(path.glob("*.safetensors"))
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC


def stored_model(folder: Path) -> Path:
    """The model file or folder of a base in the store, following its link."""
    lineage = read_lineage(folder)
    if lineage is not None and "path" in lineage.details:
        return _linked(lineage)
    gguf = folder / GGUF_NAME
    if gguf.is_file():
        return gguf
    if is_model(folder):
        return folder
    raise NotFound(f"{folder} holds no model", hint=f"nomoat rm {folder.name}, then nomoat pull it again")


def _linked(lineage: Lineage) -> Path:
    path = Path(str(lineage.details["path"]))
    again = f"nomoat pull {path} --name {lineage.name} --replace"
    if not path.exists():
        raise NotFound(f"base {lineage.name!r} is a link to {path}, which is gone", hint=again)
    # The hash was taken when the link was made; hashing gigabytes at each start would be slow, so a changed
    # size stands in for it. The base's fingerprint, taken from the tensors, guards adapters.
    expected = lineage.details.get("size_bytes")
    if path.is_file() and expected is not None and path.stat().st_size != expected:
        raise HashMismatch(
            f"base {lineage.name!r} is a link to {path}, which has changed since it was pulled", hint=again
        )
    return path
