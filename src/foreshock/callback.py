"""A callback for `transformers.Trainer` and TRL's trainers: the watch looks after every save, and may stop training.

    from foreshock.callback import WatchCallback
    trainer = Trainer(..., callbacks=[WatchCallback("watch.yaml")])

Each look is `foreshock watch OUTPUT_DIR --once`, a process of its own that outlives a crash of the training and goes on
where the last one was; with `execution.cluster: slurm` in the configuration it only submits jobs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

STOP_FILE = "foreshock-alarm.json"
LOG_FILE = "foreshock-watch.log"


class WatchCallback(TrainerCallback):
    """Looks at the checkpoints after every save, one look at a time; ends training at an alarm, unless `stop` is false.

    config: how checkpoints are evaluated (docs/watch.md). options: further options of `foreshock watch`, such as
    `["--webhook", URL]`. What the looks say is appended to `foreshock-watch.log` in the output directory; the alarm is
    left in `foreshock-alarm.json` there, which has to be moved away before training is started again.
    """

    def __init__(self, config: str | Path, *, stop: bool = True, options: Sequence[str] = ()) -> None:
        self.config, self.stop, self.options = Path(config).absolute(), stop, tuple(options)
        if not self.config.is_file():
            raise FileNotFoundError(f"{self.config}: no such configuration of a watch")
        self._look: subprocess.Popen[bytes] | None = None

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """Start a look, unless one is at work: the next one sees what it has missed."""
        if state.is_world_process_zero:
            self._start(Path(args.output_dir))
        return self._decide(args, control)

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """Between saves alarms come in as well."""
        return self._decide(args, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """A last look, which nobody waits for."""
        if state.is_world_process_zero:
            self._start(Path(args.output_dir))
        return control

    def _start(self, folder: Path) -> None:
        if self._look is not None and self._look.poll() is None:
            return
        command = [sys.executable, "-m", "foreshock", "watch", str(folder), "--config", str(self.config), "--once"]
        command += ["--stop-file", str(folder / STOP_FILE), *self.options]
        with (folder / LOG_FILE).open("ab") as log:
            self._look = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _decide(self, args: Any, control: Any) -> Any:
        """The first process looks, and all hear its answer: where they differed, they would wait for each other."""
        if self.stop and _agreed((Path(args.output_dir) / STOP_FILE).is_file()):
            control.should_training_stop = True
        return control


def _agreed(seen: bool) -> bool:
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return seen
    said = [seen]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]
