"""The optimiser of the masters, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from flrc.healing.gradient_tuning import GradientTuning

INTEGER = "integer:"
"""What the key of a state begins with that is an integer, not a tensor."""


class MasterOptimizer:
    """AdamW, with 8-bit moments or Muon for the matrices where the settings say so.

    Args:
        settings: Which, and its constants.
        masters: What it moves, by name.
    """

    def __init__(self, settings: GradientTuning, masters: Mapping[str, Tensor]) -> None:
        self._masters = masters
        matrices = {name: m for name, m in masters.items() if m.ndim == 2}
        rest = {name: m for name, m in masters.items() if m.ndim != 2}
        if settings.optimizer == "muon":
            parts = [(_muon, matrices), (_adamw, rest)]
        else:
            kind = _adamw_8bit if settings.optimizer == "adamw_8bit" else _adamw
            parts = [(kind, dict(masters))]
        self._optimizers = [make(settings, list(of.values())) for make, of in parts if of]
        self._largest, self._clip = settings.learning_rate, settings.clip

    def step(self, share: float) -> None:
        """Move the masters by their gradients, which are freed, at a share of the learning rate."""
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(list(self._masters.values()), self._clip)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._largest * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """``master/moment`` -> tensor, none of which shares memory with another.

        bitsandbytes counts steps in integers, and has one table of 8-bit values for all masters.
        """
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, master in self._masters.items():
            for key, value in self._of(master).items():
                if isinstance(value, int):
                    found[f"{name}/{INTEGER}{key}"] = torch.tensor(value)
                elif isinstance(value, Tensor):
                    found[f"{name}/{key}"] = value.clone() if value.data_ptr() in seen else value
                    seen.add(value.data_ptr())
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take :meth:`state` back."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for master in group["params"]:
                    optimizer.state[master] = {}
        for joined, value in state.items():
            name, _, key = joined.rpartition("/")
            master = self._masters[name]
            home = next(o for o in self._optimizers if master in o.state)
            if key.startswith(INTEGER):
                home.state[master][key.removeprefix(INTEGER)] = int(value)
            else:  # a fused AdamW counts its steps on the device, too
                home.state[master][key] = value.to(master.device)

    def _of(self, master: Tensor) -> dict[str, Any]:
        known = (o.state[master] for o in self._optimizers if master in o.state)
        return next(known, {})


def _adamw(settings: GradientTuning, masters: list[Tensor]) -> Optimizer:
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(
        masters,
        lr=settings.learning_rate,
        betas=betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _adamw_8bit(settings: GradientTuning, masters: list[Tensor]) -> Optimizer:
    import bitsandbytes

    made: Any = bitsandbytes.optim.AdamW8bit(
        masters,
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
    )
    return made  # type: ignore[no-any-return]


def _muon(settings: GradientTuning, masters: list[Tensor]) -> Optimizer:
    return torch.optim.Muon(
        masters,
        lr=settings.learning_rate,
        momentum=settings.beta1,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",  # so that learning rates are those of AdamW
    )
