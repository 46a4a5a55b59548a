"""An adapter as llama.cpp reads one: a GGUF file of type ``adapter`` with ``NAME.lora_a`` and ``NAME.lora_b``."""

from __future__ import annotations

from pathlib import Path

import gguf

from nomoat.formats.gguf import GgufFile
from nomoat.model.adapters import Adapter

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_lora(adapter: Adapter, model: Path, out: Path) -> None:
    """Write ``adapter`` for the GGUF file ``model``. Rows of q and k keep nomoat's order, which changes no timing."""
    writer = gguf.GGUFWriter(out, str(GgufFile.open(model).metadata["general.architecture"]))
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.config.alpha)
    for module, delta in adapter.deltas.items():
        _, _, layer, part = module.split(".", 3)
        name = f"blk.{layer}.{PARTS[part]}.weight"
        writer.add_tensor(f"{name}.lora_a", delta.lora_A.detach().numpy())
        writer.add_tensor(f"{name}.lora_b", delta.lora_B.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
