"""Numbers that differ only by rounding errors are the same number and make the same run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flrc.allocator.proportional import Proportional
from flrc.allocator.sensitivity_search import SensitivitySearch
from flrc.allocator.type_loss import TypeLoss
from flrc.config import RunConfig
from flrc.core import jsonfile
from flrc.core.canonical import DIGITS, canonical
from flrc.decomposition.kfac import Kfac
from flrc.library.compression import configuration
from flrc.running.identity import run_folder, run_id
from flrc.schedule.progressive import Progressive

if TYPE_CHECKING:
    from flrc.core.component import Component


@pytest.mark.parametrize(
    ("computed", "written"),
    [
        (0.1 + 0.2, 0.3),
        (1 - 0.7, 0.3),
        (sum([0.001] * 300), 0.3),
        (np.arange(0.1, 0.5, 0.1)[2], 0.3),
        (np.float32(0.3), 0.3),
        (np.float16(0.3), 0.3),
        (1 - 2 / 3, 1 / 3),
        (3 * 1e-14 + 1e-29, 3e-14),
        (0.1 + 0.2 - 0.3, 0.0),
        (-0.0, 0.0),
    ],
)
def test_rounding_errors_are_gone(computed: float, written: float) -> None:
    found = canonical(computed)
    assert type(found) is float
    assert repr(found) == repr(written)
    assert canonical({"a": [computed, (computed,)]}) == {"a": [written, (written,)]}


@given(st.decimals(-1000, 1000, allow_nan=False, places=DIGITS - 4).filter(bool))
def test_what_is_written_stays(number: Any) -> None:
    written = float(number)
    assert repr(canonical(written)) == repr(written + 0.0)
    assert repr(canonical(math.nextafter(written, math.inf))) == repr(written + 0.0)


@pytest.mark.parametrize(
    "written",
    [1e-14, 1e-6, 1e-16, 1e300, math.e, 1 / 6, 5 / 6, -1 / 30, 0.333333333333, 0.1234567890123456,
     math.inf, 2.0**-52, 2.0**-126, 1e-15 / 3, math.pi / 10, 1e-17],
)  # fmt: skip
def test_numbers_of_any_size_and_length_stay(written: float) -> None:
    assert canonical(written) == written


@given(st.floats(allow_nan=False))
def test_a_canonical_number_is_its_own(number: float) -> None:
    assert canonical(canonical(number)) == canonical(number)


@pytest.mark.parametrize(
    ("computed", "written"),
    [
        (Kfac(clip=[0.1 + 0.2, 2]), Kfac(clip=[0.3, 2.0])),
        (TypeLoss(offset=3), TypeLoss(offset=3.0)),
        (TypeLoss(offset=np.float32(3.3)), TypeLoss(offset=3.3)),
        (SensitivitySearch(ratios=[0.1, 1 - 0.7]), SensitivitySearch(ratios=[0.1, 0.3])),
        (SensitivitySearch(ratios=list(np.arange(0.1, 0.35, 0.1))),
         SensitivitySearch(ratios=[0.1, 0.2, 0.3])),
        (Progressive(offsets=[-0.0, 0]), Progressive(offsets=[0.0, 0.0])),
        (Proportional(minimum_rank=np.int64(2)), Proportional(minimum_rank=2)),
    ],
)  # fmt: skip
def test_components_have_one_text(computed: Component, written: Component) -> None:
    """What ids, cache keys and records are made of."""
    one, other = (jsonfile.canonical(c.describe()) for c in (computed, written))
    assert one == other


def test_the_default_that_no_decimal_holds_is_kept() -> None:
    assert TypeLoss().offset == math.e


def test_a_number_that_is_set_later(run_config: Callable[..., RunConfig]) -> None:
    config = run_config("method=svd", "rate=0.3")
    written = run_id(config)
    config.rate = 0.1 + 0.2
    assert config.rate == 0.3
    assert run_id(config) == written


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("rate=0.30000000000000004", "rate=0.3"),
        ("rate=3e-1", "rate=0.3"),
        ("rate=${oc.decode:'0.30000000000000004'}", "rate=0.3"),
        ("schedule.offsets=[-0.30000000000000004,0.3]", "schedule.offsets=[-0.3,0.3]"),
        ("schedule.offsets=[-0.0,0.0]", "schedule.offsets=[0,0]"),
        ("decomposition.cutoff=1.0000000000000001e-14", "decomposition.cutoff=1e-14"),
    ],
)
def test_one_folder_however_it_is_written(
    word: str, written: str, run_config: Callable[..., RunConfig]
) -> None:
    base = ("method=flrc", "search=none", "rate=0.5")
    one, other = (run_folder(run_config(*base, w)).path for w in (word, written))
    assert one == other
    config = run_config(*base, word).to_plain()
    assert jsonfile.canonical(config) == jsonfile.canonical(run_config(*base, written).to_plain())


def test_the_library_takes_numbers_of_numpy(tmp_path: Path) -> None:
    """What a loop over ``np.arange`` passes to ``flrc.run``."""
    rates = [configuration([f"rate={rate}"]).rate for rate in np.arange(0.1, 0.5, 0.1)]
    assert rates == [0.1, 0.2, 0.3, 0.4]
