"""Pulling from a hub: what is chosen, checked, recorded, resumed and refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import COMMIT, FakeHub, gguf_bytes
from nomoat.core.bases import resolve_base
from nomoat.core.errors import (
    FormatError,
    HashMismatch,
    NetworkError,
    NotFound,
    StorageError,
    UnsupportedType,
    UsageError,
)
from nomoat.core.records import Progress
from nomoat.core.store import Store, read_lineage
from nomoat.hub.pull import pull
from nomoat.hub.sources import PullOptions

REPO = "acme/Tiny-GGUF"


@pytest.fixture
def tiny(hub: FakeHub) -> bytes:
    data = gguf_bytes()
    hub.repos[REPO] = {"README.md": b"# Tiny", "Tiny-Q4_K_M.gguf": data}
    hub.card = {"license": "apache-2.0"}
    return data


def leftovers(store: Store) -> list[str]:
    return sorted(path.name for path in (store.home / "downloads").glob("*"))


def test_a_pulled_file_is_named_and_its_origin_hash_and_licence_are_recorded(do_pull, store, tiny) -> None:
    pulled = do_pull(f"hf:{REPO}")
    lineage = read_lineage(store.path("bases", "tiny"))
    assert resolve_base(store, "tiny").read_bytes() == tiny
    assert lineage is not None
    assert lineage.licence == "Apache-2.0"
    assert lineage.parents[0].name == f"hf:{REPO}:Tiny-Q4_K_M.gguf@{COMMIT}"
    assert lineage.parents[0].sha256 == hashlib.sha256(tiny).hexdigest() == pulled.result["sha256"]
    assert lineage.details["quantization"] == "F32" and lineage.details["architecture"] == "llama"
    assert leftovers(store) == []


def test_progress_ends_at_the_whole_size_in_bytes(do_pull, tiny) -> None:
    progress = [record for record in do_pull(f"hf:{REPO}").records if isinstance(record, Progress)]
    assert progress[-1].unit == "B"
    assert progress[-1].done == progress[-1].total == len(tiny)


def test_of_several_files_the_four_bit_one_is_taken_and_said(do_pull, hub) -> None:
    hub.repos[REPO] = {f"Tiny-{tag}.gguf": gguf_bytes(seed=n) for n, tag in enumerate(("F16", "Q8_0", "Q4_K_M"))}
    hub.repos[REPO]["mmproj-Tiny-Q4_K_M.gguf"] = gguf_bytes(seed=9)
    pulled = do_pull(f"hf:{REPO}")
    assert "taking Tiny-Q4_K_M.gguf" in pulled.notes
    assert pulled.result["source"].startswith(f"hf:{REPO}:Tiny-Q4_K_M.gguf@")


@pytest.mark.parametrize("wish", ["Tiny-Q8_0.gguf", "Q8_0", "q8_0"])
def test_a_file_can_be_asked_for_by_name_or_quantization(do_pull, hub, wish: str) -> None:
    hub.repos[REPO] = {"Tiny-Q4_K_M.gguf": gguf_bytes(), "Tiny-Q8_0.gguf": gguf_bytes(seed=1)}
    assert ":Tiny-Q8_0.gguf@" in do_pull(f"hf:{REPO}:{wish}").result["source"]


def test_asking_for_a_file_that_is_not_there_lists_what_is(do_pull, tiny) -> None:
    with pytest.raises(NotFound) as caught:
        do_pull(f"hf:{REPO}:Q2_K")
    assert "Tiny-Q4_K_M.gguf" in caught.value.hint


def test_a_cut_connection_goes_on_where_it_broke(do_pull, store, hub, tiny) -> None:
    hub.behaviour.cut_after = [100_000, 50_000]
    pulled = do_pull(f"hf:{REPO}")
    assert "the connection broke" in pulled.notes
    assert resolve_base(store, "tiny").read_bytes() == tiny
    ranges = [headers.get("range") for headers in hub.asked("/storage/")]
    assert ranges[0] is None
    first, second = (int(str(value).removeprefix("bytes=").rstrip("-")) for value in ranges[1:])
    assert 0 < first < second < len(tiny)


def test_a_pull_stopped_by_the_user_is_resumed_by_the_next(do_pull, store, hub, tiny) -> None:
    hub.behaviour.cut_after = [200_000, 0, 0, 0, 0]
    with pytest.raises(NetworkError):
        do_pull(f"hf:{REPO}")
    assert store.names("bases") == []
    part = next((store.home / "downloads").glob("*.part"))
    kept = part.stat().st_size
    assert 0 < kept < len(tiny) and part.read_bytes() == tiny[:kept]
    pulled = do_pull(f"hf:{REPO}")
    assert f"going on from byte {kept:,}" in pulled.notes
    assert hub.asked("/storage/")[-1]["range"] == f"bytes={kept}-"
    assert resolve_base(store, "tiny").read_bytes() == tiny


def test_closing_the_generator_leaves_a_part_and_no_base(store, hub) -> None:
    hub.repos[REPO] = {"big-Q4_0.gguf": gguf_bytes(size=8_000_000)}
    records = pull(f"hf:{REPO}", PullOptions(), store)
    for record in records:
        if isinstance(record, Progress):
            break
    records.close()  # type: ignore[attr-defined]  # a generator
    assert store.names("bases") == []
    assert any(name.endswith(".part") for name in leftovers(store))


def test_a_server_without_ranges_makes_the_download_start_anew(do_pull, store, hub, tiny) -> None:
    hub.behaviour.cut_after = [100_000]
    hub.behaviour.no_ranges = True
    do_pull(f"hf:{REPO}")
    assert resolve_base(store, "tiny").read_bytes() == tiny


def test_a_part_longer_than_the_file_is_thrown_away_after_416(do_pull, store, hub, tiny) -> None:
    hub.behaviour.cut_after = [150_000, 0, 0, 0, 0]
    with pytest.raises(NetworkError):
        do_pull(f"hf:{REPO}")
    part = next((store.home / "downloads").glob("*.part"))
    with part.open("ab") as file:
        file.write(bytes(len(tiny)))
    do_pull(f"hf:{REPO}")
    assert resolve_base(store, "tiny").read_bytes() == tiny


def test_a_part_of_another_version_is_not_continued(do_pull, store, hub, tiny) -> None:
    hub.behaviour.cut_after = [150_000, 0, 0, 0, 0]
    with pytest.raises(NetworkError):
        do_pull(f"hf:{REPO}")
    newer = gguf_bytes(seed=5)
    hub.repos[REPO]["Tiny-Q4_K_M.gguf"] = newer
    do_pull(f"hf:{REPO}")
    assert resolve_base(store, "tiny").read_bytes() == newer


def test_a_damaged_sidecar_only_costs_the_part(do_pull, store, hub, tiny) -> None:
    hub.behaviour.cut_after = [150_000, 0, 0, 0, 0]
    with pytest.raises(NetworkError):
        do_pull(f"hf:{REPO}")
    next((store.home / "downloads").glob("*.json")).write_text("{")
    do_pull(f"hf:{REPO}")
    assert resolve_base(store, "tiny").read_bytes() == tiny


def test_a_wrong_hash_deletes_the_download_and_names_nothing(do_pull, store, hub, tiny) -> None:
    hub.behaviour.corrupt = True
    with pytest.raises(HashMismatch) as caught:
        do_pull(f"hf:{REPO}")
    assert hashlib.sha256(tiny).hexdigest() in caught.value.message
    assert store.names("bases") == [] and leftovers(store) == []


def test_small_files_are_checked_against_gits_hash(do_pull, store, hub) -> None:
    hub.repos["acme/folder"] = {"config.json": b"{}", "model.safetensors": b"x" * 64}
    hub.behaviour.corrupt = True
    with pytest.raises(HashMismatch, match="git hash"):
        do_pull("hf:acme/folder")
    assert store.names("bases") == []


def test_a_body_longer_than_promised_is_an_error(do_pull, store, hub, tiny) -> None:
    hub.behaviour.lies_about_size = True
    with pytest.raises(HashMismatch, match="were promised"):
        do_pull(f"hf:{REPO}")
    assert store.names("bases") == []


def test_a_given_hash_that_the_hub_does_not_state_is_refused_before_the_download(do_pull, hub, tiny) -> None:
    with pytest.raises(HashMismatch):
        do_pull(f"hf:{REPO}", sha256="ab" * 32)
    assert hub.asked("/storage/") == []


def test_an_unknown_repository_is_not_found(do_pull, hub) -> None:
    with pytest.raises(NotFound, match="404"):
        do_pull("hf:acme/nothing")


@pytest.mark.parametrize(("status", "word"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (503, "later")])
def test_a_refusal_says_what_to_do(do_pull, hub, status: int, word: str) -> None:
    hub.repos[REPO] = {}
    hub.behaviour.status = status
    with pytest.raises(NetworkError) as caught:
        do_pull(f"hf:{REPO}")
    assert word in caught.value.hint


def test_the_token_goes_to_the_hub_and_nowhere_else(do_pull, hub, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    do_pull(f"hf:{REPO}")
    assert all(headers["authorization"] == "Bearer secret" for headers in hub.asked("/resolve/"))
    with FakeHub(repos={"acme/other": {"x.gguf": gguf_bytes()}}) as elsewhere:
        do_pull(f"{elsewhere.url}/storage/acme/other/x.gguf")
        assert all("authorization" not in headers for _, headers in elsewhere.requests)


def test_the_offline_switch_is_honoured_without_a_request(do_pull, hub, tiny, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        do_pull(f"hf:{REPO}")
    assert hub.requests == []


def test_an_answer_that_is_no_listing_is_a_network_error(do_pull, hub, monkeypatch) -> None:
    hub.repos["acme/odd"] = {}
    monkeypatch.setattr("loopback.json.dumps", lambda value: "[]")
    with pytest.raises(NetworkError, match="does not answer like a hub"):
        do_pull("hf:acme/odd")


def test_a_page_instead_of_a_model_is_refused_and_swept(do_pull, store, hub) -> None:
    hub.repos[REPO] = {"x.gguf": b"<html>" + bytes(1000)}
    with pytest.raises(FormatError) as caught:
        do_pull(f"hf:{REPO}")
    assert f"hf:{REPO}:x.gguf" in caught.value.message
    assert store.names("bases") == [] and leftovers(store) == []


def test_a_quantization_that_we_do_not_read_is_refused_at_the_door(do_pull, store, hub) -> None:
    # 27 is I64, listed by the format, expanded by nobody here; four bytes each of the built tensor are spare.
    hub.repos[REPO] = {"x.gguf": gguf_bytes(tensor_type=27) + bytes(400_000)}
    with pytest.raises(UnsupportedType, match="I64"):
        do_pull(f"hf:{REPO}")
    assert store.names("bases") == []


def test_pickled_weights_are_refused(do_pull, hub) -> None:
    hub.repos["acme/pickles"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    with pytest.raises(FormatError, match=r"\.bin"):
        do_pull("hf:acme/pickles")
    assert hub.asked("/resolve/") == []


def test_pulling_the_same_again_is_no_error_and_no_request(do_pull, hub, tiny) -> None:
    first = do_pull(f"hf:{REPO}")
    asked = len(hub.requests)
    second = do_pull(f"hf:{REPO}")
    assert "here already" in second.notes
    assert len(hub.requests) == asked
    assert second.result == first.result


def test_another_base_under_a_taken_name_needs_replace(do_pull, store, hub, tiny) -> None:
    do_pull(f"hf:{REPO}")
    hub.repos["other/Tiny-GGUF"] = {"a.gguf": gguf_bytes(seed=3)}
    with pytest.raises(UsageError, match="exists already"):
        do_pull("hf:other/Tiny-GGUF")
    assert resolve_base(store, "tiny").read_bytes() == tiny
    do_pull("hf:other/Tiny-GGUF", replace=True)
    assert resolve_base(store, "tiny").read_bytes() == gguf_bytes(seed=3)


def test_a_licence_nobody_states_is_said(do_pull, store, hub) -> None:
    hub.repos[REPO] = {"x.gguf": gguf_bytes(licence="")}
    assert "licence: unknown" in do_pull(f"hf:{REPO}").notes
    assert read_lineage(store.path("bases", "tiny")).licence == "unknown"  # type: ignore[union-attr]


def test_two_licences_that_differ_are_both_said(do_pull, hub) -> None:
    hub.repos[REPO] = {"x.gguf": gguf_bytes(licence="mit")}
    hub.card = {"license": "other", "license_name": "acme-research-only"}
    pulled = do_pull(f"hf:{REPO}")
    assert "licence: MIT" in pulled.notes
    assert "the source states another licence: acme-research-only" in pulled.notes


def test_a_folder_of_safetensors_is_taken_where_there_is_no_gguf(do_pull, store, hub, tmp_path: Path) -> None:
    files = safetensors_folder(tmp_path)
    hub.repos["acme/folder"] = {**files, "README.md": b"#", "original/consolidated.bin": b"x"}
    pulled = do_pull("hf:acme/folder")
    folder = resolve_base(store, "folder")
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert sorted(path.name for path in folder.iterdir()) == sorted([*files, "nomoat.json"])
    assert pulled.result["architecture"] == "llama"
    assert leftovers(store) == []


def safetensors_folder(tmp_path: Path) -> dict[str, bytes]:
    import numpy as np
    from safetensors.numpy import save

    weights = save({"model.embed_tokens.weight": np.zeros((8, 4), np.float32)})
    config = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
    return {"config.json": config, "model.safetensors": weights, "tokenizer.json": b"{}"}


def test_too_little_space_is_said_before_the_download(do_pull, store, hub, tiny, monkeypatch) -> None:
    import shutil

    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("nomoat.hub.download.shutil.disk_usage", lambda path: full)
    with pytest.raises(StorageError, match=r"1,000 free"):
        do_pull(f"hf:{REPO}")
    assert store.names("bases") == []


_PULL_WITH_A_FULL_DISK = """
import resource, signal, sys
from nomoat.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(["pull", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE")
def test_a_disk_that_fills_up_ends_in_one_clear_error_and_no_base(store, hub, tiny) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _PULL_WITH_A_FULL_DISK, f"hf:{REPO}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 8
    assert "error:" in result.stderr and "Traceback" not in result.stderr
    assert store.names("bases") == []


def test_a_home_that_is_a_file_is_a_storage_error(hub, tiny, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    with pytest.raises(StorageError):
        list(pull(f"hf:{REPO}", PullOptions(), Store(blocked / "home")))


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may write everywhere, so for these tests root steps down."""
    if sys.platform == "win32":
        pytest.skip("POSIX permissions")
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_home_that_is_not_ours_to_write_or_read_is_a_storage_error(
    hub, tiny, tmp_path: Path, mode: int, nobody, request: pytest.FixtureRequest
) -> None:
    home = Path(tempfile.mkdtemp())
    request.addfinalizer(lambda: (home.chmod(0o700), home.rmdir()))
    home.chmod(mode)
    with pytest.raises(StorageError) as caught:
        list(pull(f"hf:{REPO}", PullOptions(), Store(home / "nomoat")))
    assert "NOMOAT_HOME" in caught.value.hint
