"""Functions that the configuration files call: ``${by_scale:...}`` and ``${label_of:...}``."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from flrc.errors import choose


def register_resolvers() -> None:
    """Make the functions known to OmegaConf."""
    OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
    OmegaConf.register_new_resolver("label_of", label_of, replace=True)


def by_scale(paper: Any, small: Any, *, _root_: DictConfig) -> Any:
    """``${by_scale:PAPER,SMALL}``: the value for the scale at which the study runs."""
    values = {"paper": paper, "small": small}
    return values[choose("scale", str(_root_.scale), list(values))]


def label_of(model: str, label: str, *, _parent_: DictConfig) -> str:
    """``${label_of:ID,LABEL}``: a preset's label while the model's ``id`` is this one.

    Empty otherwise, so that the label follows from the id.
    """
    return label if _parent_.id == model else ""
