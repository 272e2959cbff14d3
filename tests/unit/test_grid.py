"""The jobs of a sweep, composed in advance, are those that Hydra composes."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from tiny import CONF

from flrc.config import register
from flrc.sweeps.arguments import ConfigLocation
from flrc.sweeps.grid import first_job, job_count, jobs
from flrc.sweeps.missing_settings import check_settings_exist, set_by_each_job


def plain(job: Any) -> Any:
    """The configuration of a run, interpolations as they are."""
    with open_dict(job):
        job.pop("hydra")
    return OmegaConf.to_container(job)


@pytest.mark.parametrize(
    ("words", "count", "options"),
    [
        ("method=svd,flrc rate=0.2,0.3 seed=1,2", 8, 2),
        ("rate=0.2,0.3 evaluation=[perplexity],[zeroshot] allocator={minimum_rank:2}", 4, 2),
        ("method=flra ++allocator.minimum_rank=1,2 ~evaluation.perplexity allocator=uniform", 2, 1),
        ("experiment=table02 method=dense,kfac rate=0.2 data.root=D", 2, 2),
        ("experiment=table13 scale=paper study=x${seed} model=llama3_8b method=flrc", 4, 2),
    ],
)
def test_jobs_are_composed_as_hydra_does(
    words: str, count: int, options: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", words.split(), RunMode.MULTIRUN)
        compose, composed = loader.load_sweep_config, []

        def counted(*arguments: Any) -> Any:
            composed.append(arguments)
            return compose(*arguments)

        monkeypatch.setattr(loader, "load_sweep_config", counted)
        made = list(jobs(config))
        assert len(composed) == options
        assert len(made) == job_count(config) == count
        assert len({tuple(each) for each, _ in made}) == count
        assert [job.hydra.job.num for _, job in made] == list(range(count))
        first = plain(first_job(config))
        for at, (each, job) in enumerate(made):
            expected = plain(compose(config, each))
            assert plain(job) == expected
            assert at > 0 or first == expected


def test_the_order_is_that_of_the_sweep() -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        words = ["rate=0.2,0.3", "method=svd,kfac"]
        config = loader.load_configuration("config", words, RunMode.MULTIRUN)
        expected = product(("rate=0.2", "rate=0.3"), ("method=svd", "method=kfac"))
        assert [tuple(each) for each, _ in jobs(config)] == list(expected)


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        # uniform, the default, has no floor
        ("method=svd allocator=proportional,softmax allocator.floor=0.1 rate=0.3", [2]),
        ("method=svd,svdllm allocator.minimum_rank=2 evaluation.perplexity.length=64", []),
        ("evaluation=[zeroshot],[perplexity] evaluation.zeroshot.tasks=[piqa,arc_easy]", [1]),
        ("evaluation=[zeroshot],[perplexity] evaluation.zeroshot={limit:3,shots:0}", [1]),
        ("allocator.floor=0.1,0.2 allocator=proportional,uniform", []),
        ("method=svd allocator=proportional allocator.floor=0.1", []),
        ("rate=0.2,0.3 allocator=proportional allocator.floor=0.1", []),
    ],
)
def test_settings_of_visited_options_are_set_by_each_job(words: str, changed: list[int]) -> None:
    register()
    given = words.split()
    made = set_by_each_job(ConfigLocation(str(CONF)), given)
    assert [place for place, word in enumerate(made) if word != given[place]] == changed
    for place in changed:
        key, _, value = given[place].partition("=")
        assert made[place] == f"{key}=choice({value})"


def test_a_setting_that_only_the_visited_options_have() -> None:
    register()
    words = ["method=svd", "allocator=proportional,proportional", "allocator.floor=choice(0.1)"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", words, RunMode.MULTIRUN)
        check_settings_exist(config)
        assert [job.allocator.floor for _, job in jobs(config)] == [0.1, 0.1]
