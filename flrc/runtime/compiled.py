"""The decoding step, compiled once for each phase."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from flrc.errors import choose
from flrc.runtime.base import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from flrc.plans.target import Target

BACKENDS = ("inductor", "aot_eager", "eager")
RECOMPILATIONS = 64
"""Maximum number of compiled versions: one per phase and shape, until a shape becomes dynamic."""


@dataclass
class Compiled(Runtime):
    """Compiles forward steps of one token with ``torch.compile``, over a cache of fixed size.

    Active ranks are constants of a compiled step, so each phase is compiled separately, when it is
    first reached. The prefill is not compiled. A step that cannot be compiled as one graph is an
    error; it never falls back to uncompiled code.

    Attributes:
        backend: Backend of ``torch.compile``: ``inductor``, or one that only traces (``aot_eager``,
            ``eager``).
    """

    name: str = "compiled"
    backend: str = "inductor"

    def check(self) -> None:
        """Check that the backend is known."""
        choose("runtime.backend", self.backend, BACKENDS)

    @contextmanager
    def running(
        self, model: nn.Module, targets: Sequence[Target], dense_bytes: int
    ) -> Iterator[None]:
        """See :class:`~flrc.runtime.base.Runtime`; inside, generation uses a static cache."""
        import torch
        import torch._dynamo as dynamo

        from flrc.models.anatomy.placement import settle

        settle(model)
        model.eval()
        forward = model.forward
        step = torch.compile(forward, fullgraph=True, backend=self.backend)

        @wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            ids = kwargs.get("input_ids")
            decoding = ids is not None and ids.shape[1] == 1
            return (step if decoding else forward)(*args, **kwargs)

        config: Any = model.generation_config
        before = config.cache_implementation
        config.cache_implementation = "static"
        model.forward = run  # type: ignore[method-assign]
        try:
            with dynamo.config.patch(recompile_limit=RECOMPILATIONS):  # type: ignore[no-untyped-call]
                yield
        finally:
            del model.forward
            config.cache_implementation = before
            dynamo.reset()  # compiled code references the model
