"""What each target writes into its folder, and how it is opened again to be checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from nomoat.core.bases import GGUF_NAME
from nomoat.core.files import atomic_write
from nomoat.core.records import Progress
from nomoat.engine.names import Worn
from nomoat.export.folders import write_hf, write_peft
from nomoat.export.gguf_lora import write_lora
from nomoat.export.gguf_lora_read import read_lora
from nomoat.export.gguf_model import Merge, write_model
from nomoat.export.modelfile import Modelfile, stops_of
from nomoat.export.ollama_template import derive_template
from nomoat.export.options import ExportOptions
from nomoat.export.parity import Exported
from nomoat.export.tokens import runtime_of
from nomoat.formats.weights import Floats
from nomoat.model.load import Base, load_base
from nomoat.train.artefact import TEMPLATE_FILE

LORA_NAME = "adapter.gguf"
_MOST_CONTEXT = 8192  # what a laptop can hold; whoever has more memory raises num_ctx

Writing = Generator[Progress, None, Exported]


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """What is exported. ``title`` is what the file is called inside of itself."""

    base: Base
    worn: Worn
    options: ExportOptions
    title: str
    importance: Mapping[str, Floats]


def write_gguf_model(export: Export, folder: Path, type: str = "") -> Writing:
    """``model.gguf``: base and stack in one."""
    preset = type or export.options.used_type
    path = folder / GGUF_NAME
    yield from write_model(path, Merge(export.base, export.worn, preset, export.importance))
    again = load_base(path, name=export.title)
    return Exported(again, (), runtime_of(again), preset, model=path)


def write_gguf_lora(export: Export, folder: Path, type: str = "") -> Writing:
    """``adapter.gguf``: the stack as one LoRA over the base's own file.

    Where that file has no chat template of its own, the one that was trained with lies beside it:
    ``llama-server --chat-template-file``.
    """
    used = type or export.options.used_type
    path = folder / LORA_NAME
    yield Progress("writing", 0, len(export.worn), "adapters")
    write_lora(path, export.base, export.worn, name=export.title, type=used)
    if export.base.template.kind != "base":
        atomic_write(folder / TEMPLATE_FILE, export.base.template.source)
    adapter = read_lora(path, export.base)
    model = export.base.path if export.base.path.is_file() else None
    runtime = runtime_of(export.base)
    return Exported(export.base, ((adapter, 1.0),), runtime, used, model=model, lora=path)


def write_hf_folder(export: Export, folder: Path) -> Writing:
    """A merged Hugging Face folder."""
    yield Progress("writing", 0, 1, "folders")
    type = write_hf(folder, export.base, export.worn, type=export.options.type)
    again = load_base(folder, name=export.title)
    return Exported(again, (), runtime_of(again), type)


def write_peft_folder(export: Export, folder: Path) -> Writing:
    """A PEFT folder."""
    yield Progress("writing", 0, len(export.worn), "adapters")
    write_peft(folder, export.base, export.worn, name=export.title)
    adapter = export.base.load_adapter(folder)
    return Exported(export.base, ((adapter, 1.0),), runtime_of(export.base), "F32")


def beside(base: Base, worn: Worn, options: ExportOptions) -> bool:
    """Whether Ollama gets the base's own file and the stack beside it: so nothing is rounded again."""
    return base.path.is_file() and not options.type and bool(worn)


def write_ollama(export: Export, folder: Path) -> Writing:
    """A ``Modelfile`` with a merged model beside it; over a GGUF base and without a type, with the stack as a LoRA."""
    apart = beside(export.base, export.worn, export.options)
    if apart:
        exported = yield from write_gguf_lora(export, folder, "F32")
    else:
        exported = yield from write_gguf_model(export, folder)
    words = exported.base.tokenizer
    stops = stops_of([words.text_of(token) for token in words.eos_ids])
    template = derive_template(export.base.template, bos=exported.runtime.added_bos)
    modelfile = Modelfile(
        model=str(export.base.path) if apart else f"./{GGUF_NAME}",
        adapter=f"./{LORA_NAME}" if apart else "",
        template=template,
        stops=stops,
        context=min(exported.base.decoder.config.max_seq_len, _MOST_CONTEXT),
        licence=export.base.licence,
    )
    atomic_write(folder / "Modelfile", modelfile.text())
    runtime = dataclasses.replace(exported.runtime, ollama=template, stops=stops)
    return dataclasses.replace(exported, runtime=runtime)


WRITERS: dict[str, Callable[[Export, Path], Writing]] = {
    "gguf": write_gguf_model,
    "gguf-lora": write_gguf_lora,
    "hf": write_hf_folder,
    "peft": write_peft_folder,
    "ollama": write_ollama,
}
