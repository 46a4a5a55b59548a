"""What Ollama's clients ask about models."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any

from nomoat.serve.catalogue import listing
from nomoat.serve.desk import Desk


def tags(desk: Desk) -> list[dict[str, Any]]:
    """Every model on offer, the base first."""
    return [_tag(desk, row["id"], row["created"]) for row in listing(desk)]


def _tag(desk: Desk, name: str, created: int) -> dict[str, Any]:
    shelf = desk.shelf
    path = shelf.base.path if name == shelf.base.name else None
    size = path.stat().st_size if path is not None and path.is_file() else 0
    # Ollama's digest is of a manifest, which is not here; the base's fingerprint and the name tell models apart.
    digest = hashlib.sha256(f"{shelf.base.fingerprint.exact}:{name}".encode()).hexdigest()
    when = datetime.fromtimestamp(created, timezone.utc).isoformat()
    return {"name": name, "model": name, "modified_at": when, "size": size, "digest": digest, "details": _details(desk)}


def _details(desk: Desk) -> dict[str, Any]:
    base = desk.shelf.base
    family = base.decoder.config.family
    kind = "gguf" if base.path.suffix.lower() == ".gguf" else "safetensors"
    return {
        "parent_model": "",
        "format": kind,
        "family": family,
        "families": [family],
        "parameter_size": "",
        "quantization_level": "",
    }


def shown(desk: Desk, name: str) -> dict[str, Any]:
    """One model. Raises ``RequestError`` (404)."""
    outfit = desk.shelf.outfit(name)
    config = outfit.base.decoder.config
    return {
        "modelfile": f"FROM {outfit.name}\n",
        "parameters": "",
        "template": outfit.base.template.source,
        "license": outfit.base.licence,
        "details": _details(desk),
        "model_info": {
            "general.architecture": config.family,
            f"{config.family}.context_length": desk.context,
            f"{config.family}.embedding_length": config.d_model,
            f"{config.family}.block_count": config.n_layers,
        },
        "capabilities": ["completion", "tools", "embedding"],
    }
