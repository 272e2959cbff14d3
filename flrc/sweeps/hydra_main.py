"""The function that Hydra calls for each job, for any folder of the configuration."""

from __future__ import annotations

from collections.abc import Callable

import hydra
from omegaconf import DictConfig, OmegaConf

from flrc.sweeps import job


def hydra_main(conf: str) -> Callable[[], None]:
    """The main function of a program whose configuration is in the folder ``conf``."""

    @hydra.main(version_base="1.3", config_path=conf, config_name="config")  # type: ignore[untyped-decorator]
    def main(config: DictConfig) -> None:
        """Run one job."""
        job.run(lambda: OmegaConf.to_object(config))

    return main  # type: ignore[no-any-return]
