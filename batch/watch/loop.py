"""The watch itself: look, plan, evaluate, estimate, raise the alarm; again.

Every step reads what is on disk and makes its result durable before the next one starts, so a watch may be killed
anywhere and started again: checkpoints in the plan are not planned twice, whole shards are not computed twice, and an
alarm that was raised is never raised again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from foreshock.batch.config import Cluster, RunConfig
from foreshock.batch.planning.admission import admit_checkpoints, admit_further, remembered_of
from foreshock.batch.planning.checkpoints import NoCheckpointYetError, find_checkpoints, is_selected
from foreshock.batch.planning.make_plan import worker_settings
from foreshock.batch.planning.specs import model_facts
from foreshock.batch.redact import redact_text
from foreshock.batch.running.execute import missing_specs
from foreshock.batch.running.honest import add_honest, chosen_notes
from foreshock.batch.running.run import RunHooks, finish
from foreshock.batch.site import Site, resolve_site
from foreshock.batch.status.watched import WatchLock
from foreshock.batch.watch.changes import tell_changes
from foreshock.batch.watch.estimate import look_ahead, new_alarms
from foreshock.batch.watch.grow import begin, grow
from foreshock.batch.watch.options import WatchOptions
from foreshock.batch.watch.ready import Look, Readiness, Settling
from foreshock.batch.watch.state import SeenCheckpoint, WatchState
from foreshock.batch.watch.telling import Events, Tell, deliver, sentence, tell_unseen
from foreshock.batch.watch.work import Work, work_on
from foreshock.counted import counted
from foreshock.errors import ForeshockError, InputError, StopRequestedError
from foreshock.jobs.records.checkpoint_names import FINAL, checkpoint_order, result_name
from foreshock.jobs.records.jsonl import write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import Checkpoint, JobSpec

_LONGEST_RETRY_S = 3600.0


@dataclass
class Watcher:
    """One watch over `config.checkpoints.dir` into the run directory `layout`.

    `tell` receives every event: a dict with `event`, `time` and `message`, and the event's own facts. patient: whether
    it waits for a folder that is out of reach.
    """

    config: RunConfig
    options: WatchOptions
    layout: RunLayout
    command: Sequence[str]
    hooks: RunHooks
    tell: Tell
    sleep: Callable[[float], None] = time.sleep
    plan: PlanFile | None = None
    state: WatchState | None = None
    alarmed: bool = False
    failed: list[str] = field(default_factory=list)
    unusable: set[str] = field(default_factory=set)
    waiting: bool = False
    patient: bool = False
    site: Site = field(init=False)
    _settling: Settling = field(init=False)
    _events: Events = field(init=False)
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _whole: set[Checkpoint] = field(default_factory=set)
    _lock: WatchLock | None = None
    _retry: dict[Checkpoint, tuple[float, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._settling = Settling(self.options.settle_s)
        self._events = Events(self.tell)
        self.site = resolve_site(self.config)
        if self.config.adaptive.enabled:
            raise InputError(
                "adaptive.enabled: adaptive rounds come after a sweep, and a watched one has no end",
                fix="set it to false; `foreshock run --adaptive` does it once training has ended",
            )
        if self.layout.plan.is_file():
            self.plan = PlanFile.read(self.layout)
            self.state = WatchState.read(self.layout)
            for alarm in self.state.alarms:  # a start may follow a repair of what did not answer
                for failed in alarm.failed.values():
                    failed.next = 0.0

    def run(self, *, once: bool) -> None:
        """Watch until the end: `until` is reached, an alarm ends it, or with `once` after one look.

        Raises StopRequestedError on Ctrl-C; the next start goes on from there. Raises ForeshockError when another
        watch of this run lives.
        """
        if self.plan is not None:
            self._hold()
        try:
            self._loop(once)
        except KeyboardInterrupt:
            self._status("interrupted", "interrupted", end=True)
            raise StopRequestedError(
                f"stopped watching; everything finished is kept\n"
                f"  -> foreshock watch {self.config.checkpoints.dir} --run-dir {self.layout.root} goes on from here"
            ) from None
        except BaseException as error:
            self._status("failed", redact_text(f"{type(error).__name__}: {error}"), end=True)
            raise
        else:
            whole = self.plan is not None and not self.failed and not self.unusable
            self._status("submitted" if self.waiting else "completed" if whole else "incomplete", None, end=True)
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _hold(self) -> None:
        lock = WatchLock(self.layout, say=lambda text: self._events.say("lock", text))
        lock.acquire()
        self._lock = lock

    def _loop(self, once: bool) -> None:
        self.patient = not once
        while True:
            settling = self.step()
            if once and settling:
                self.sleep(self.options.settle_s)
                self.step()
            if once or self.ended():
                return
            self._status("watching", None)
            self.sleep(self.options.poll_s)

    def _status(self, status: str, reason: str | None, *, end: bool = False) -> None:
        """`status.json`, once there is a run; alarms are named in it."""
        if self.plan is None or self.state is None:
            return
        now = datetime.now(UTC)
        alarms = [alarm.message for alarm in self.state.alarms]
        write_json(
            self.layout.status,
            {
                "status": status,
                "exit_reason": reason,
                "start_time": self._started.isoformat(timespec="seconds"),
                "end_time": now.isoformat(timespec="seconds") if end else None,
                "duration_seconds": round((now - self._started).total_seconds(), 3) if end else None,
                "watching": str(self.config.checkpoints.dir),
                "alarms": alarms,
            },
        )

    def step(self) -> bool:
        """One look and everything that follows from it; returns whether a whole checkpoint only needs to rest."""
        if self._lock is not None:
            self._lock.require()
        settling = self._look()
        if self.plan is None or self.state is None:
            return settling
        deliver(
            self.state, self.layout, self.options, self._events, self.sleep
        )  # what an earlier step or start still owes
        tell_changes(self.layout, self.plan, self._watched(self.plan), self.state, self._events)
        self._evaluate(self.plan)
        if self._follow(self.plan):
            self._evaluate(self.plan)
        self._estimate(self.plan, self.state)
        return settling

    def _follow(self, plan: PlanFile) -> bool:
        """Plan what rests on the first checkpoint's own samples, once they are there; whether anything is new."""
        larger = add_honest(self.layout, plan, self.config)
        if larger is None:
            return False
        self.plan = larger
        self._whole -= {spec.checkpoint for spec in larger.specs[len(plan.specs) :]}
        for line in chosen_notes(self.layout):
            self._events.say("planned", line)
        return True

    def ended(self) -> bool:
        """Whether nothing is left to wait for."""
        if self.options.exit_on_alarm and self.alarmed:
            return True
        if self.plan is None or self.waiting:
            return False
        done = set(self._done_names(self.plan))
        steps = self.config.checkpoints.steps
        if steps != "all" and {result_name(None if s == FINAL else int(s)) for s in steps} <= done:
            return True
        until = self.options.until
        return until is not None and any(checkpoint_order(name) >= (False, until) for name in done)

    # Looking

    def _look(self) -> bool:
        """Plan every checkpoint that has become ready; returns whether any may be once it has rested."""
        planned = set() if self.plan is None else {c.name for c in self._watched(self.plan)}
        settling = False
        present = self._present()
        self.unusable &= {checkpoint.name for checkpoint in present}
        for checkpoint in present:
            if checkpoint.name in planned:
                continue
            look = self._settling.look(checkpoint)
            if look.state is Readiness.SHARDED:
                raise InputError(look.reason)
            if look.state is not Readiness.READY:
                self._wait_for(checkpoint, look)
                settling = settling or look.state is Readiness.SETTLING or checkpoint.name not in self.unusable
                continue
            self._add(checkpoint, look.signature)
        return settling

    def _wait_for(self, checkpoint: Checkpoint, look: Look) -> None:
        """Nothing that is still written is unusable; what rests and lacks something is, until it changes."""
        name, reason = checkpoint.name, look.reason or "still changing"
        if look.state is Readiness.INCOMPLETE and look.rested:
            self.unusable.add(name)
            self._events.say_once("unusable", name, f"{name}: cannot be evaluated, and nothing of it changes: {reason}")
        else:
            self.unusable.discard(name)
            self._events.say_once("waiting", name, f"{name}: not whole yet: {reason}")

    def _watched(self, plan: PlanFile) -> list[Checkpoint]:
        """Planned checkpoints of the training run, in order; a donor may bear the name of one and is none of them."""
        run = self.config.checkpoints.run_name
        return sorted({spec.checkpoint for spec in plan.specs if spec.checkpoint.run == run})

    def _present(self) -> list[Checkpoint]:
        """Checkpoints there now that are wanted. A folder in which nothing can ever become one is an error; one that
        has had some may be out of reach for a while."""
        try:
            found = find_checkpoints(self.config.checkpoints)
        except NoCheckpointYetError as error:
            self._events.say_once("waiting", "", f"no checkpoint yet: {error}".split("\n")[0])
            return []
        except (InputError, OSError) as error:
            if self.plan is None or not self.patient:
                raise
            self._events.say_once("waiting", "", f"nothing to see now: {error}".split("\n")[0])
            return []
        for note in found.notes:
            self._events.say_once("passed_over", "", note)
        return [c for c in found.checkpoints if is_selected(c, self.config.checkpoints.steps)]

    def _add(self, checkpoint: Checkpoint, seen: str) -> None:
        try:
            settings = worker_settings(self.config) if self.plan is None else self.plan.settings
            remembered = remembered_of(self.config)
            facts = {checkpoint: model_facts(settings, checkpoint, remembered)}
            if self.plan is None:
                admit_checkpoints(self.config, settings, facts, remembered=remembered)
            else:
                admit_further(self.config, self.plan, facts, remembered)
        except (ForeshockError, OSError, ValueError) as error:
            self.unusable.add(checkpoint.name)
            self._events.say_once("unusable", checkpoint.name, f"{checkpoint.name}: cannot be evaluated: {error}")
            return
        self.unusable.discard(checkpoint.name)
        if self.plan is None or self.state is None:
            self.layout, self.plan, self.state = begin(
                self.config, self.site, [checkpoint], self.command, self.layout.root
            )
            self._hold()
            self._events.say("run", f"run directory: {self.layout.root}", run_dir=str(self.layout.root))
        else:
            self.plan = grow(self.layout, self.plan, self.config, checkpoint)
        self.state.checkpoints[checkpoint.name] = SeenCheckpoint(seen)
        self.state.write(self.layout)
        rows = sum(spec.n_rows for spec in self.plan.specs if spec.checkpoint == checkpoint)
        self._events.say(
            "planned", f"{checkpoint.name}: whole, {rows} rows to do", checkpoint=checkpoint.name, rows=rows
        )

    # Evaluating

    def _evaluate(self, plan: PlanFile) -> None:
        specs = self._open_specs(plan)
        if not specs:
            return
        before = {spec.checkpoint for spec in specs}
        self._status("running", None)
        try:
            with self.hooks.display(f"watch {self.layout.name}") as on_snapshot:
                work = work_on(self.layout, plan, self.site, specs, on_snapshot)
        except StopRequestedError:
            raise KeyboardInterrupt from None
        except ForeshockError as error:
            self._note_failures(Work(tuple(specs), failures=(str(error),)))
            return
        self.waiting = bool(work.waiting)
        self._found_whole(before - {spec.checkpoint for spec in work.missing})
        self._note_failures(work)
        self._say_waiting(work)

    def _open_specs(self, plan: PlanFile) -> list[JobSpec]:
        """Missing specs that can be done now: not of changed or gone checkpoints, nor of ones that just failed."""
        assert self.state is not None
        unsure = [spec for spec in plan.specs if spec.checkpoint not in self._whole]
        missing = missing_specs(self.layout, plan, unsure)
        self._found_whole({spec.checkpoint for spec in unsure} - {spec.checkpoint for spec in missing})
        own = {checkpoint: self.state.checkpoints.get(checkpoint.name) for checkpoint in self._watched(plan)}
        now = time.monotonic()

        def usable(checkpoint: Checkpoint) -> bool:
            seen = own.get(checkpoint)
            blocked = (seen is not None and seen.changed) or not checkpoint.path.is_dir()
            return not blocked and self._retry.get(checkpoint, (0.0, 0))[0] <= now

        return [spec for spec in missing if usable(spec.checkpoint)]

    def _found_whole(self, checkpoints: set[Checkpoint]) -> None:
        """Say so of those that no estimate has counted yet; jobs may have finished while nobody watched."""
        assert self.state is not None
        counted = set() if self.state.outlook is None else set(self.state.outlook.checkpoints)
        for checkpoint in sorted(checkpoints - self._whole):
            self._whole.add(checkpoint)
            self._retry.pop(checkpoint, None)
            if checkpoint.run == self.config.checkpoints.run_name and checkpoint.name not in counted:
                self._events.say_once("evaluated", checkpoint.name, f"{checkpoint.name}: evaluated")

    def _note_failures(self, work: Work) -> None:
        """Failed checkpoints are tried again after a pause that doubles, an hour at most."""
        failed = work.failed_checkpoints()
        self.failed = [checkpoint.name for checkpoint in failed]
        why = "; ".join(work.failures) or f"see foreshock status {self.layout.root}"
        for checkpoint in failed:
            times = self._retry.get(checkpoint, (0.0, 0))[1] + 1
            pause = min(self.options.poll_s * 2**times, _LONGEST_RETRY_S)
            self._retry[checkpoint] = (time.monotonic() + pause, times)
            name, n = checkpoint.name, sum(1 for spec in work.missing if spec.checkpoint == checkpoint)
            self._events.say("failed", f"{name}: {counted(n, 'shard')} missing: {why}", checkpoint=name)

    def _say_waiting(self, work: Work) -> None:
        names = sorted({s.checkpoint.name for s in work.missing if s.key() in work.waiting}, key=checkpoint_order)
        if names:
            self._events.say_once("queued", "", f"in the queue or running: {', '.join(names)}")

    # Estimating

    def _done_names(self, plan: PlanFile) -> list[str]:
        """Evaluated checkpoints of the watched training run, in order."""
        return [checkpoint.name for checkpoint in self._watched(plan) if checkpoint in self._whole]

    def _estimate(self, plan: PlanFile, state: WatchState) -> None:
        done, options = self._done_names(plan), self.options
        if not done:
            return
        old = state.outlook
        fresh = old is None or (old.checkpoints, old.threshold, old.horizon) != (
            done,
            options.threshold,
            options.horizon,
        )
        if fresh:
            try:
                state.outlook = look_ahead(self.layout, self.config, done, options.threshold, options.horizon)
            except InputError as error:
                self._events.say_once("no_estimate", "", f"no estimate yet: {error}")
                return
            state.write(self.layout)
            for row in state.outlook.types:
                self._events.say("estimate", sentence(row, options.threshold), **row)
        if state.outlook is not None:
            tell_unseen(self._events, state.outlook, options.score)
        self._raise_alarms(state)
        if fresh and options.report and self.config.execution.cluster is not Cluster.SLURM:
            self._report()  # on a cluster the job after the arrays writes it

    def _raise_alarms(self, state: WatchState) -> None:
        assert state.outlook is not None
        raised = {alarm.exploit_type for alarm in state.alarms}
        alarms = new_alarms(
            state.outlook,
            self.options.alarm_probability,
            raised,
            self.config.checkpoints.run_name,
            self.layout,
            self.options.deliveries,
            self.options.score,
        )
        if not alarms:
            return
        state.alarms += alarms
        state.write(self.layout)  # before anybody is told: told twice is possible, raised twice is not
        self.alarmed = True
        for alarm in alarms:
            self._events.say("alarm", f"ALARM: {alarm.message}", id=alarm.id, **alarm.facts)
        deliver(state, self.layout, self.options, self._events, self.sleep)

    def _report(self) -> None:
        try:
            finish(self.layout, self.config, self.hooks, None)
        except InputError as error:
            self._events.say_once("no_report", "", f"no report: {error}")
            return
        self._events.say("report", f"report: {self.layout.report}", path=str(self.layout.report))
