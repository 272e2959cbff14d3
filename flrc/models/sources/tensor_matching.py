"""Whether a checkpoint's tensors match the model that its config describes."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from flrc.core.library_output import without_bars
from flrc.errors import UserError
from flrc.models.sources.file_inspection import BUFFERS, FLOATING, quantized

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.models.sources.weight_headers import Header

ADAPTER = re.compile(
    r"(^|[._])(lora|ia3)([._]|$)|(^|\.)adapters?[._]|prompt_(embeddings|encoder)", re.IGNORECASE
)
"""Names of tensors that adapters of peft, kohya and others add to a model."""
GGUF_PART = re.compile(r"blk\.|token_embd|output")
"""Names of blocks, embedding and head in GGUF files."""
SHOWN = 5
"""Names in a message."""


def from_pretrained(
    location: Mapping[str, Any], dtype: torch.dtype
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and which tensors were missing, of another shape, or unexpected.

    ``transformers`` fills missing tensors with random values and warns in a table; here the caller
    raises an error instead.
    """
    report = logging.getLogger("transformers.modeling_utils")
    before, report.disabled = report.disabled, True
    try:
        with without_bars():
            model, info = AutoModelForCausalLM.from_pretrained(
                **location,
                dtype=dtype,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    finally:
        report.disabled = before
    return model, info


def unused_tensors(
    model: PreTrainedModel, info: Mapping[str, Any], where: str, tensors: Header | None = None
) -> list[str]:
    """The checkpoint's tensors that the model does not need.

    These are constants that the model computes itself, and parts that it does not have (a vision
    tower, a value head). A tensor within one of the model's own parts (a bias, a norm, another
    block) would change what the model computes: then the config belongs to another model.

    Args:
        model: As ``from_pretrained`` returns it.
        info: What ``from_pretrained`` reports about the tensors (``output_loading_info``).
        where: The checkpoint's name in messages.
        tensors: Its content; None for a GGUF file, where ``info`` has all the names.

    Raises:
        UserError: If a tensor is missing, duplicated, has another shape, is quantized, or cannot be
            ignored.
    """
    tensors = tensors or {}
    left = _without_place(model, tensors, where)
    problems = [f"{name} is missing" for name in sorted(info["missing_keys"])]
    problems += [
        f"{name} is {tuple(actual)}, the config asks for {tuple(expected)}"
        for name, actual, expected in sorted(info["mismatched_keys"])
    ]
    unexpected = sorted(info["unexpected_keys"])
    if problems:
        raise _misfit(problems, unexpected, where)
    needed = [name for name in unexpected if _changes(model, name)]
    for name in left:  # older models named their masks "bias"; a one-dimensional one is a bias
        if name.endswith(".bias") and BUFFERS.search(name) and len(tensors[name]["shape"]) == 1:
            needed.append(name)
    if needed:
        raise _misfit([f"{name} has no place" for name in needed], [], where)
    _check_ties(model, where)
    return left if tensors else unexpected


def unread_gguf(model: PreTrainedModel, file: str) -> set[str]:
    """Tensors of a GGUF file that its reader silently skips."""
    from transformers.integrations.gguf import read_gguf_metadata
    from transformers.integrations.gguf.utils import is_gguf_arch_supported
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    metadata, names = read_gguf_metadata(file)
    architecture = metadata["general.architecture"]
    if is_gguf_arch_supported(architecture):  # from_pretrained reports them
        return set()
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config={})
    known = get_gguf_hf_weights_map(model, processor)
    # The experts of a layer are one tensor in the file and several in the model.
    return {name for name in names if name not in known and "_exps." not in name}


def _without_place(model: PreTrainedModel, tensors: Header, where: str) -> list[str]:
    """Names of a checkpoint's tensors that were not loaded.

    ``from_pretrained`` adds and removes a prefix, so two names can mean one parameter, and the last
    one wins. It also skips some names silently. Two tensors for one parameter are refused here, and
    integers for a floating-point one.
    """
    state, prefix = model.state_dict(), model.base_model_prefix
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    first: dict[tuple[str, str], str] = {}
    left = []
    for name, header in tensors.items():
        place, pattern = rename_source_key(name, renamings, converters, prefix, state)
        if place not in state and name in state:
            place, pattern = rename_source_key(name, [], [], prefix, state)
        if place not in state:
            left.append(name)
            continue
        if header["dtype"] not in FLOATING and state[place].is_floating_point():
            raise quantized(where, f"{name} is {header['dtype']}")
        # With a converter several tensors make one parameter, as with experts.
        part = re.sub(rf"^({re.escape(prefix)}\.)+", "", name) if pattern and prefix else ""
        other = first.setdefault((place, part), name)
        if other != name:
            raise UserError(
                "two tensors of the checkpoint are one parameter of the model",
                given=f"{where}: {other} and {name} are both {place}",
                allowed="one name for every parameter",
                fix="remove the one that is not the model's from the file",
            )
    return sorted(left)


def _changes(model: PreTrainedModel, name: str) -> bool:
    """Whether a tensor belongs to a part of the model, to a copy of one, or to an adapter."""
    if BUFFERS.search(name):
        return False
    if ADAPTER.search(name) or GGUF_PART.match(name):
        return True
    parts = [child for whole in (model, model.base_model) for child, _ in whole.named_children()]
    if name.partition(".")[0] in parts:
        return True
    leaves = {key.rpartition(".")[0] for key in model.state_dict()}
    return any(f".{leaf}." in f".{name}" for leaf in leaves if "." in leaf)


def _check_ties(model: PreTrainedModel, where: str) -> None:
    """Tensors that the config ties are equal; ``from_pretrained`` accepts different ones."""
    asked = model.get_expanded_tied_weights_keys(all_submodels=True)
    for name in asked.keys() - model.all_tied_weights_keys.keys():
        raise UserError(
            "the checkpoint's tensors do not match its config",
            given=f"{where}: {name} differs from {asked[name]}, and the config ties them",
            fix="tie_word_embeddings: false in config.json, if the model has a head of its own",
        )


def _misfit(problems: list[str], unexpected: list[str], where: str) -> UserError:
    more = [f"{len(problems) - SHOWN} more"] * (len(problems) > SHOWN)
    given = f"{where}: {'; '.join([*problems[:SHOWN], *more])}"
    if unexpected:
        given += f"; not asked for: {', '.join(unexpected[:SHOWN])}"
    return UserError(
        "the checkpoint's tensors do not match its config",
        given=given,
        allowed="every tensor that the config asks for, with its name in transformers",
        fix="the config.json that belongs to these weights; or load them as they were trained, "
        "and save_pretrained(FOLDER)",
    )
