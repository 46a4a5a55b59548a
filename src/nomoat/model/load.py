"""Open a base: a GGUF file or a Hugging Face folder, ready to generate and to be trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from nomoat.core.errors import NotFound, ShapeMismatch
from nomoat.core.store import Store
from nomoat.formats.gguf import GgufFile
from nomoat.formats.hf import is_hf_folder, read_config
from nomoat.formats.safetensors import SafetensorsFolder
from nomoat.kernels import blocks
from nomoat.model import adapter_files, adapters, tokenizer
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.build import Builder, Place
from nomoat.model.decoder import Decoder
from nomoat.model.families import FAMILIES
from nomoat.model.fingerprint import Fingerprint, fingerprint_of
from nomoat.model.gguf_config import config_from_gguf, gguf_tensor_name
from nomoat.model.hf_config import config_from_hf
from nomoat.model.template import ChatTemplate, template_from_folder, template_from_gguf
from nomoat.model.tokenizer import Tokenizer

_ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_short.weight")


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """A frozen starting model with everything that belongs to it. ``licence`` is empty where the file has none."""

    name: str
    path: Path
    decoder: Decoder
    tokenizer: Tokenizer
    template: ChatTemplate
    fingerprint: Fingerprint
    licence: str

    def new_adapter(self, config: AdapterConfig, *, seed: int, name: str) -> Adapter:
        """A fresh adapter over this base that changes nothing yet."""
        return adapters.new_adapter(
            self.decoder, config, seed=seed, name=name, base_name=self.name, fingerprint=self.fingerprint
        )

    def load_adapter(self, folder: Path, *, name: str = "") -> Adapter:
        """Read a PEFT folder. Raises ``AdapterMismatch`` when it was trained on another base."""
        return adapter_files.load_adapter(
            folder,
            self.decoder,
            name=name or folder.name,
            base_name=self.name,
            fingerprint=self.fingerprint,
        )


def load_base(path: Path, *, name: str = "", cache: Path | None = None) -> Base:
    """Open the base at ``path``, a GGUF file or a Hugging Face folder. Weights stay mapped in their blocks.

    ``cache``: a folder for built tokenizers; by default one in the store's home.
    Raises ``NotFound``, ``FormatError`` and its kin.
    """
    if path.is_dir() and is_hf_folder(path):
        return _load_folder(path, name or path.name)
    if path.is_file():
        return _load_gguf(path, name or path.stem, cache or Store().home / "cache")
    raise NotFound(f"{path}: neither a GGUF file nor a Hugging Face folder", hint="nomoat ls --kind bases")


def _load_gguf(path: Path, name: str, cache: Path) -> Base:
    file = GgufFile.open(path)
    names = set(file.names())
    if "token_embd.weight" not in names:
        raise ShapeMismatch("tensor 'token_embd.weight' is missing", file=path)
    config = config_from_gguf(
        file.metadata,
        _rope_factors(file),
        vocab_size=file.shape("token_embd.weight")[0],
        tied="output.weight" not in names,
        source=str(path),
    )
    traits = FAMILIES[config.family]
    builder = Builder(
        file,
        config,
        lambda parameter: gguf_tensor_name(parameter, config.norms),
        pairs=traits.gguf_rotates_pairs,
        norm_offset=0.0,
    )
    decoder = builder.decoder()
    words = tokenizer.from_gguf(file, cache)
    return Base(
        name=name,
        path=path,
        decoder=decoder,
        tokenizer=words,
        template=template_from_gguf(file, words),
        fingerprint=fingerprint_of(decoder),
        licence=str(file.metadata.get("general.license") or ""),
    )


def _rope_factors(file: GgufFile) -> tuple[float, ...] | None:
    """The file's own divisors of the rotary frequencies, where it has some."""
    for name in _ROPE_FACTORS:
        if name in file.tensors:
            values = blocks.expand(blocks.from_view(file.data(name)), file.type(name))[0]
            return tuple(values.tolist())
    return None


def _load_folder(path: Path, name: str) -> Base:
    raw = read_config(path)
    config = config_from_hf(_text_part(raw), source=str(path / "config.json"))
    weights = SafetensorsFolder.open(path)
    traits = FAMILIES[config.family]
    builder = Builder(
        weights,
        config,
        folder_place(weights.names()),
        pairs=False,
        norm_offset=1.0 if traits.norm_adds_one else 0.0,
    )
    decoder = builder.decoder()
    words = tokenizer.from_folder(path)
    return Base(
        name=name,
        path=path,
        decoder=decoder,
        tokenizer=words,
        template=template_from_folder(path, words),
        fingerprint=fingerprint_of(decoder),
        licence=_folder_licence(path),
    )


def _text_part(raw: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a multimodal configuration."""
    inner = raw.get("text_config")
    if not isinstance(inner, dict):
        return raw
    return {**{key: raw[key] for key in ("tie_word_embeddings",) if key in raw}, **inner}


def folder_place(names: list[str]) -> Place:
    """How parameters are called in this folder: as they are, or under ``language_model.``."""
    for prefix in ("", "language_model.", "model.language_model."):
        if f"{prefix}model.embed_tokens.weight" in names:
            return lambda parameter: prefix + parameter
    if "model.language_model.embed_tokens.weight" in names:
        return lambda parameter: parameter.replace("model.", "model.language_model.", 1)
    return lambda parameter: parameter


def _folder_licence(path: Path) -> str:
    """The ``license:`` line of the model card, as the hub writes it."""
    card = path / "README.md"
    if not card.is_file():
        return ""
    head = card.read_bytes()[:4096].decode("utf-8", "replace")
    if not head.startswith("---"):
        return ""
    lines = [line for line in head.split("---")[1].splitlines() if line.startswith("license:")]
    return lines[0].partition(":")[2].strip() if lines else ""
