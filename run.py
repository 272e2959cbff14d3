"""Command line: ``python run.py -m method=flrc,svdllm rate=0.2,0.3``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from flrc.config import register
from flrc.sweeps import command_line, job

register()
CONF = str(Path(__file__).resolve().parent / "conf")


@hydra.main(version_base="1.3", config_path=CONF, config_name="config")
def main(config: DictConfig) -> None:
    """Run one job."""
    job.run(lambda: OmegaConf.to_object(config))


if __name__ == "__main__":
    sys.exit(command_line.sweep(main, CONF, sys.argv[1:]))
