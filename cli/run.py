"""``prdsim run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import ConfigCommand, given_options
from .shared_options import takes_config


@click.command(cls=ConfigCommand, name="run")
@takes_config
def command(config: Path | None, settings: tuple[str, ...], **options: Any) -> int:
    """Run a simulation and write its trajectory file.

    CONFIG is a TOML file of configuration keys. Later layers override earlier ones: defaults,
    preset, CONFIG, --set, options. Ctrl-C stops after the current step; the run can be resumed.
    """
    from prdsim.config.files import load_config
    from prdsim.files.whole import refuse_inputs

    merged = load_config(config, settings=settings, options=given_options(options))
    if config is not None and merged.output is not None:
        refuse_inputs([Path(merged.output)], [config])

    from prdsim.running.runner import run

    from .summary import finish

    return finish(run(merged, progress=True))
