"""Tiny models, synthetic data and composed configurations, for tests and the golden numbers."""

from __future__ import annotations

import copy
import json
import random
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from flrc.models.sources.shapes import SHAPES

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedModel

    from flrc.config import RunConfig

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
GROUPS = {path.name for path in CONF.iterdir() if path.is_dir()}

TINY_SHAPES = [name for name in SHAPES if name.startswith("tiny")]
"""The others are real sizes, which no test builds."""

_models: dict[tuple[str, str, float], PreTrainedModel] = {}


def make_model(
    shape: str = "tiny_llama_gqa", dtype: str = "float32", spread: float = 0.2
) -> PreTrainedModel:
    """A model of a tiny shape in evaluation mode; the caller may change it.

    ``spread`` is the standard deviation of its weights: the default is ten times the usual one, so
    that attention and logits are far from uniform and a wrong mask or rank shows.
    """
    key = (shape, dtype, spread)
    if key not in _models:
        from transformers import AutoConfig, AutoModelForCausalLM

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = AutoConfig.for_model(**SHAPES[shape], initializer_range=spread)
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
            for name, parameter in model.named_parameters():
                if name.endswith(
                    ".bias"
                ):  # transformers initialises them to 0: a dropped one would not show
                    torch.nn.init.normal_(parameter, std=0.5)
        _models[key] = model.eval().requires_grad_(False)
    return copy.deepcopy(_models[key])


def write_data(root: Path, seed: int = 0) -> Path:
    """A folder of small synthetic data sets with the published columns."""
    draw = random.Random(seed)
    words = ["the", "red", "fox", "ran", "over", "a", "hill", "and", "slept", "Anna", "Tom", "soon"]

    def text(count: int) -> str:
        return " ".join(draw.choice(words) for _ in range(count))

    def dialogue(index: int) -> dict[str, str]:
        turns = [f"#Person{1 + i % 2}#: {text(4 + draw.randrange(8))}." for i in range(3)]
        return {"id": f"item_{index}", "dialogue": "\n".join(turns), "summary": text(6) + "."}

    rows: dict[str, list[dict[str, str]]] = {
        f"{name}/{split}": [{"text": text(30)} for _ in range(60)]
        for name, splits in (
            ("wikitext2", ("train", "validation", "test")),
            ("c4", ("train", "validation")),
        )
        for split in splits
    }
    rows |= {
        f"dialogsum/{split}": [dialogue(i) for i in range(12)]
        for split in ("train", "validation", "test")
    }
    # Drawn last, so that the rows above do not change.
    rows["dialogsum/train"] += [dialogue(12 + i) for i in range(8)]
    for name, lines in rows.items():
        path = root / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return root


@cache
def _composed(*choices: str) -> DictConfig:
    """The configuration with these options of the groups: not to be changed, as it is kept."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from flrc.config import register

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose("config", overrides=list(choices))


def compose(*overrides: str) -> RunConfig:
    """Compose and validate a configuration as ``run.py`` does.

    As Hydra does, compose the chosen options of the groups first, which takes most of the time and
    is therefore done once for each choice, and then apply the other overrides.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    from flrc.config import RunConfig

    choices, others = [], []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group in GROUPS and not isinstance(override.value(), dict):
            choices.append(str(override.input_line))
        else:
            others.append(override)
    composed = copy.deepcopy(_composed(*choices))
    ConfigLoaderImpl._apply_overrides_to_config(others, composed)
    config = OmegaConf.to_object(composed)
    assert isinstance(config, RunConfig)
    return config
