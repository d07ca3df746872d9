"""A callback for `transformers.Trainer` and TRL's trainers: the watch looks after every save, and may stop training.

    from foreshock.callback import WatchCallback
    trainer = Trainer(..., callbacks=[WatchCallback("watch.yaml")])

Each look is `foreshock watch OUTPUT_DIR --once`, a process of its own that outlives a crash of the training and goes on
where the last one was; with `execution.cluster: slurm` in the configuration it only submits jobs.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from transformers import TrainerCallback

STOP_FILE = "foreshock-alarm.json"
LOG_FILE = "foreshock-watch.log"
EXIT_ALARM = 3
"""Of a watch that raised an alarm."""


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
        self._ended: IO[bytes] | None = None
        self._told: set[str] = set()

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """Start a look, unless one is at work: the next one sees what it has missed."""
        self._tell_failure(Path(args.output_dir))
        if state.is_world_process_zero:
            self._start(Path(args.output_dir))
        return self._decide(args, control)

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """Between saves alarms come in as well."""
        return self._decide(args, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """A last look, for which nobody waits; after one at work, which may not know the last checkpoint."""
        if state.is_world_process_zero:
            self._start(Path(args.output_dir), last=True)
        return control

    def _start(self, folder: Path, *, last: bool = False) -> None:
        at_work = self._look is not None and self._look.poll() is None
        if at_work and not last:
            return
        command = [sys.executable, "-m", "foreshock", "watch", str(folder), "--config", str(self.config), "--once"]
        command += ["--stop-file", str(folder / STOP_FILE), *self.options]
        if at_work:  # the pipe whose other end a look holds is at its end when the look is
            command = ["/bin/sh", "-c", 'cat > /dev/null; exec "$@" < /dev/null', "sh", *command]
        ended, held = os.pipe()
        with (folder / LOG_FILE).open("ab") as log:
            self._look = subprocess.Popen(
                command,
                stdin=self._ended if at_work else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(held,),
                start_new_session=True,
            )
        os.close(held)
        if self._ended is not None:
            self._ended.close()
        self._ended = os.fdopen(ended, "rb")

    def _tell_failure(self, folder: Path) -> None:
        """A watch that cannot work is nobody's guard: say so where training is read."""
        code = None if self._look is None else self._look.poll()
        if code not in (None, 0, EXIT_ALARM):
            self._warn(f"a look of foreshock watch ended with exit code {code}; see {folder / LOG_FILE}")

    def _warn(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logging.getLogger(__name__).warning(text)

    def _decide(self, args: Any, control: Any) -> Any:
        """The first process looks, and all hear its answer: where they differed, they would wait for each other."""
        alarm = Path(args.output_dir) / STOP_FILE
        if self.stop and _agreed(alarm.is_file()):
            self._warn(f"training ends at the alarm in {alarm}; move it away to train on")
            control.should_training_stop = True
        return control


def _agreed(seen: bool) -> bool:
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return seen
    said = [seen]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]
