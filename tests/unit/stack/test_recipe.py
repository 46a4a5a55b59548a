from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.core.errors import BadHeader, NomoatError, NotFound, UnsupportedType
from nomoat.stack.recipe import read_recipe

WHOLE = """
merge_method: ties
base_model: smollm2
models:
  - model: smollm2
  - {model: scribe, parameters: {weight: 1.0, density: 0.6}}
  - {model: smollm2+sql, parameters: {weight: 0.5}}
parameters: {normalize: false, lambda: 0.8, int8_mask: true, density: 0.4}
dtype: bfloat16
tokenizer_source: base
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_models_weights_densities_and_parameters_are_read(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, WHOLE))
    assert recipe.base == "smollm2"
    assert recipe.adapters == ("scribe", "sql:0.5")
    assert recipe.densities == (0.6, None)
    assert recipe.options == {"method": "ties", "normalize": False, "scale": 0.8, "density": 0.4}


def test_slerp_takes_its_place_between_two(tmp_path: Path) -> None:
    text = "merge_method: slerp\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.25}\n"
    recipe = read_recipe(written(tmp_path, text))
    assert recipe.adapters == ("a:0.75", "b:0.25") and recipe.options == {"method": "slerp"}
    with pytest.raises(BadHeader, match="between two"):
        read_recipe(written(tmp_path, text.replace(", {model: b}", "")))


def test_dare_linear_is_called_dare_here(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path, WHOLE.replace("ties", "dare_linear"))).options["method"] == "dare"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (("merge_method: ties", "merge_method: passthrough"), UnsupportedType, "passthrough"),
        (("merge_method: ties", "merge_method: [ties]"), UnsupportedType, "merge_method"),
        (("weight: 0.5", "weight: [0.1, 0.9]"), UnsupportedType, "varies over the layers"),
        (("weight: 0.5", "weight: yes"), BadHeader, "not a number"),
        (("weight: 0.5", "weight: .nan"), BadHeader, "not a number"),
        (("weight: 0.5", "gamma: 0.5"), UnsupportedType, "'gamma'"),
        (("lambda: 0.8", "select_topk: 0.8"), UnsupportedType, "'select_topk'"),
        (("dtype: bfloat16", "slices: []"), UnsupportedType, "'slices'"),
        (("models:", "model:"), BadHeader, "models is not a list"),
        (("base_model: smollm2", "base_model: 7"), BadHeader, "base_model"),
        (("{normalize: false", "{normalize: false, ["), BadHeader, "not YAML"),
        (("dtype: bfloat16", "dtype: !!python/object/apply:os.getcwd []"), BadHeader, "not YAML"),
    ],
)
def test_what_is_not_understood_is_refused(
    change: tuple[str, str], kind: type[NomoatError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        read_recipe(written(tmp_path, WHOLE.replace(*change)))


def test_a_missing_and_a_giant_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_recipe(tmp_path / "absent.yaml")
    with pytest.raises(BadHeader, match="bytes"):
        read_recipe(written(tmp_path, "#" * (1 << 20) + "#"))
