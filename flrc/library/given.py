"""What the caller of the library gives, checked before any work: words, a model, calibration."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.calibration.base import Calibration
from flrc.errors import UserError
from flrc.library.model_checks import check_model
from flrc.models.sources.base import ModelSource, label_of
from flrc.sweeps.overrides import parse

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.data.base import DataSource

ARGUMENTS = ("method", "rate", "seed")
"""Keys that have an argument of their own."""
COMMAND_LINE = {
    "hydra": "one run has no launcher and no sweep",
    "launcher": "one run has no launcher",
    "workers": "one run has no workers",
    "dry_run": "a model is asked for, and a dry run makes none",
    "experiment": "a study is many runs; python run.py experiment=... runs them",
    "model.save": "the model is returned; flrc.save(compressed, folder) writes it",
}
"""Keys that mean something to the command line alone, and why."""
IN_MEMORY = {
    "model": "the model is given",
    "dtype": "the model has one; model.to(torch.bfloat16) changes it",
    "device": "the model is on one; model.to(device) moves it",
}
"""Keys that a model in memory has answered."""
OF_ANY_MODEL = ("model.partial",)
"""Keys of these that it has not: they say what is done with it."""


def check_words(overrides: Sequence[str], *, by_name: bool, calibrated: bool) -> None:
    """No word says again, or otherwise, what an argument says.

    Args:
        overrides: Words of the command line.
        by_name: Whether the model is given by name.
        calibrated: Whether calibration sequences are given.

    Raises:
        UserError: On the first word that does.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise UserError(
            "overrides are words of the command line",
            given=repr(overrides)[:100],
            allowed='a list of texts, such as ["allocator=uniform", "paths.runs=DIR"]',
        )
    answered = dict.fromkeys(ARGUMENTS, "")
    answered |= {} if by_name else IN_MEMORY
    answered |= {"calibration": "calibration sequences are given"} if calibrated else {}
    for word in overrides:
        if not isinstance(word, str):
            raise UserError("an override is a text", given=repr(word)[:100], allowed="KEY=VALUE")
    parsed = parse(overrides)
    for override in parsed:
        key, word = override.key_or_group, override.input_line
        if key.startswith("evaluation.") and not evaluates(parsed):
            raise UserError(
                "nothing is evaluated unless the overrides name evaluations",
                given=word,
                fix=f'"evaluation=[{key.split(".")[1]}]" among the overrides',
            )
        if key == "model" and by_name:
            raise UserError("model is no override here: it is the first argument", given=word)
        if key in OF_ANY_MODEL:
            continue
        for part in (key, re.split("[./]", key)[0]):
            if part in COMMAND_LINE:
                raise UserError(f"{part} is no override here: {COMMAND_LINE[part]}", given=word)
            if part in answered:
                reason = answered[part] or f"it is an argument, {part}=..."
                raise UserError(f"{part} is no override here: {reason}", given=word)


def evaluates(overrides: Sequence[Any]) -> bool:
    """Whether one of Hydra's overrides names evaluations."""
    return any(o.key_or_group == "evaluation" and not o.is_delete() for o in overrides)


@dataclass
class InMemory(ModelSource):
    """A model that the caller holds; it is handed on itself, not as a copy."""

    name: str = "in_memory"

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> InMemory:
        """The source of a model; its fingerprint is taken now, before anything changes.

        Raises:
            UserError: If it is no dense causal language model that ``transformers`` could build
                again from its config, or the tokenizer is none.
        """
        check_model(model)
        _check_tokenizer(tokenizer)
        source = cls(label=_label(model))
        source._model, source._tokenizer = model, tokenizer  # type: ignore[attr-defined]
        source._config = type(model.config).from_dict(model.config.to_dict())  # type: ignore[attr-defined]
        source._fingerprint = _fingerprint(model, tokenizer)  # type: ignore[attr-defined, arg-type]
        return source

    def fingerprint(self) -> str:
        """Digest of weights, config, settings for generating, and tokenizer."""
        return self._fingerprint  # type: ignore[attr-defined, no-any-return]

    def check_available(self) -> None:
        """It is here."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The caller's."""
        return self._tokenizer  # type: ignore[attr-defined, no-any-return]

    def config(self) -> PretrainedConfig:
        """The model's, as it was."""
        return self._config  # type: ignore[attr-defined, no-any-return]

    def load(self, dtype: str) -> PreTrainedModel:
        """The caller's model itself."""
        return self._model  # type: ignore[attr-defined, no-any-return]


def _label(model: PreTrainedModel) -> str:
    """The last part of the name that it was loaded by, or its type."""
    return label_of(str(model.config.name_or_path)) or str(model.config.model_type)


def _fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    import torch

    from flrc.library.tokenizer_digest import tokenizer_digest

    digest = hashlib.sha256(tokenizer_digest(tokenizer).encode())
    digest.update(model.config.to_json_string(use_diff=True).encode())
    digest.update(
        str(model.config._attn_implementation).encode()
    )  # which the text above leaves out
    if model.generation_config is not None:  # its end-of-sequence tokens end replies
        digest.update(model.generation_config.to_json_string().encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_tokenizer(tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerBase

    if tokenizer is None:
        raise UserError("a model in memory needs its tokenizer", fix="tokenizer=...")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UserError(
            "the tokenizer is none",
            given=type(tokenizer).__name__,
            allowed="a tokenizer of transformers, from AutoTokenizer.from_pretrained, say",
        )


@dataclass
class Given(Calibration):
    """Sequences that the caller gives; a record holds their digest, never the text.

    Attributes:
        digest: SHA-256 of what was given.
        tokens: Digest of the token ids that a tokenizer in memory makes of it; empty where the
            model's fingerprint fixes the tokenizer.
    """

    SHORTER: ClassVar[str] = "shorter texts, or fewer token ids"

    name: str = "given"
    digest: str = ""
    tokens: str = ""

    @classmethod
    def of(cls, given: Sequence[str | Sequence[int] | Tensor]) -> Given:
        """The calibration on these sequences.

        Raises:
            UserError: If they are none.
        """
        if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not given:
            raise UserError(
                "calibration is no list of sequences",
                given=f"calibration={type(given).__name__}: {repr(given)[:60]}",
                allowed="a list of texts, or of token ids as integer tensors (tokens,) or lists",
            )
        sequences = [_sequence(number, one) for number, one in enumerate(given)]
        digest = hashlib.sha256()
        for one in sequences:
            content = one.encode() if isinstance(one, str) else one.numpy().tobytes()
            digest.update(f"{len(content)}:".encode() + content)
        calibration = cls(samples=len(sequences), digest=digest.hexdigest())
        calibration._given = sequences  # type: ignore[attr-defined]
        return calibration

    def describe(self) -> dict[str, Any]:
        """Without the digest of token ids where there is none."""
        return {k: v for k, v in super().describe().items() if k != "tokens" or v}

    def splits(self) -> list[tuple[str, str]]:
        """None is read."""
        return []

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """What was given; texts without anything that a chat template would add."""
        import torch

        found = []
        for number, one in enumerate(self._given):  # type: ignore[attr-defined]
            ids = one
            if isinstance(one, str):
                ids = torch.tensor(tokenizer(one)["input_ids"], dtype=torch.int64)
            if len(ids) < 2:
                raise UserError(
                    "a calibration sequence is too short",
                    given=f"sequence {number}: {len(ids)} tokens",
                    allowed="two tokens or more",
                )
            found.append(ids)
        return found


def _sequence(number: int, one: Any) -> str | Tensor:
    """One sequence: a text, or int64 token ids on the CPU."""
    import numpy as np
    import torch

    def refuse(what: str) -> UserError:
        return UserError(
            "a calibration sequence is neither a text nor token ids",
            given=f"sequence {number}: {what}",
            allowed="a text, or token ids as an integer tensor (tokens,), array or list",
        )

    if isinstance(one, np.ndarray) and one.dtype.kind in "iu":
        one = torch.tensor(one.astype(np.int64))
    if isinstance(one, str):
        try:
            one.encode()
        except UnicodeEncodeError as error:
            raise refuse(f"a text that is no Unicode: {error}") from error
        return one
    if isinstance(one, list | tuple):
        if any(type(token) is not int or not 0 <= token < 2**31 for token in one):
            raise refuse(f"a list that holds other things than token ids: {repr(one)[:60]}")
        one = torch.tensor(one, dtype=torch.int64)
    if not isinstance(one, torch.Tensor):
        raise refuse(type(one).__name__)
    whole = not (one.is_floating_point() or one.is_complex() or one.dtype == torch.bool)
    if one.ndim != 1 or not whole or one.is_quantized or one.device.type == "meta":
        raise refuse(f"a tensor {tuple(one.shape)} of {one.dtype} on {one.device}")
    return one.detach().long().cpu()
