"""Trains the network of a config: curves, checkpoints and a table of results in a workdir.

    python train.py --config=configs/lenet5.py:data=digits --workdir=runs/lenet5_digits

The story in order: parse, devices, data, network and optimizer, restore, loop, final table. A run
is a function of (config, seed): cut off anywhere and started again, it ends with the same bits.
"""

import sys

from startup import shell
from training import preemption

if __name__ == "__main__":
    # Before the slow imports, so that Ctrl-C during them is one line, too.
    shell.attach(preemption.leaving(sys.argv))

from absl import flags

from startup import command_line, xla_settings

if __name__ == "__main__":
    command_line.define_config(
        "Experiment, e.g. configs/lenet5.py:data=digits; --config.seed=1 overrides."
    )
    flags.DEFINE_string("workdir", None, "Folder of this run; the same folder resumes it.")
    flags.DEFINE_string(
        "data_dir", None, "Folder of prepared data; else TFDS_DATA_DIR, else TFDS's own default."
    )
    flags.DEFINE_bool(
        "extend", False, "Continue the run in the workdir to a longer --config.duration."
    )
    flags.DEFINE_string(
        "track",
        None,
        "Send the rows also to wandb, trackio or tensorboard; see docs/experiments.md.",
    )
    flags.DEFINE_bool(
        "dry_run", False, "Print the whole config, the plan and what it costs; train nothing."
    )
    flags.DEFINE_bool(
        "help_config", False, "Print what --config can set: arguments, fields, meaning, defaults."
    )
    flags.DEFINE_string(
        "on", None, "With --dry_run: also compile the step for a TPU slice, e.g. v5e:16x16."
    )
    command_line.parse()  # before jax is imported: a mistake is answered at once
    if flags.FLAGS.on is not None:
        xla_settings.compile_only()

import json
import pathlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from contextlib import nullcontext as nothing
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import sharding
from errors import UserError
from sharding import Batch
from startup import jobs
from training import (
    curves,
    data_record,
    estimates,
    field_help,
    metrics,
    plan,
    progress,
    starting_weights,
    topology,
    tracking,
    workdirs,
)
from training import experiment as experiments
from training.checkpoints import Checkpoints
from training.experiment import Experiment
from training.step import TrainState, evaluation_step, is_finite, repeated, train_step

# Dispatches under way at once: enough to keep a device busy, few enough to stop promptly and to
# hold little memory: on CPU the state of each is allocated when it is dispatched.
IN_FLIGHT = 2


def main() -> None:
    """Trains with the given flags."""
    given = flags.FLAGS
    jobs.join()
    config, workdir = command_line.config(), given.workdir
    if given.help_config:
        print(field_help.page(given.config, config))
        return
    if given.on is not None and not given.dry_run:
        raise UserError("--on: needs --dry_run")
    if given.dry_run:
        return dry_run(config, on=given.on)
    if workdir is None:
        raise UserError("--workdir is missing; see --help")
    result = workdirs.read_only_result(pathlib.Path(workdir), config.to_dict())
    if result is not None:  # nothing is left to do, and the folder of others needs no lock
        print(f"finished already\n{progress.result_table(result)}")
        return
    try:
        train_and_evaluate(
            config, workdir, data_dir=given.data_dir, extend=given.extend, track=given.track
        )
    except preemption.Preempted as stop:
        if jax.process_index() == 0:
            print(stop, file=sys.stderr)
        raise SystemExit(preemption.EXIT_STATUS) from None


def dry_run(config: ConfigDict, *, on: str | None = None) -> None:
    """Checks a config and prints what it would train; reads no image and writes nothing.

    on: a TPU slice, which need not be here, to compile the step for.
    """
    mesh = sharding.create_mesh(topology.devices(on) if on else None)
    run = experiments.create(config, mesh, data=False)
    description = plan.describe(run, starting_weights.adopt(run))
    print(json.dumps(config.to_dict(), indent=1, ensure_ascii=False))
    plan.show(run, description, "none, this is a dry run")
    # Backward, the gradients of inputs and of weights cost a forward pass each.
    images = run.steps * config.batch_size
    print(
        f"cost     {3 * description['multiply_adds'] * images:.3g} multiply-adds in training, "
        f"{images:,} images"
    )
    if on:
        print(topology.report(on, run, topology.needs(topology.compiled(run))))


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    *,
    data_dir: str | None = None,
    extend: bool = False,
    track: str | None = None,
) -> tuple[TrainState, dict[str, Any]]:
    """Trains `config` in `workdir`, from where a run there was cut off.

    track: a tracker (training/tracking.py) that gets the rows, too.
    Returns the final state and the contents of result.json. Raises UserError for bad input,
    Preempted (saved, run again) on SIGTERM.
    """
    workdir = pathlib.Path(workdir)

    # Devices, data, network, optimizer: all checked before anything is written or compiled.
    mesh = sharding.create_mesh()
    run = experiments.create(config, mesh, data_dir)
    start = starting_weights.adopt(run, workdir)
    description = plan.describe(run, start)
    writes = jax.process_index() == 0  # of several processes, one writes and prints

    with (
        closing(run.pipeline),
        tracking.Tracker(track, workdir, config) as tracker,
        workdirs.claim(workdir) if writes else nothing(),
    ):
        # The workdir: one config, one run.
        if writes:
            workdirs.adopt_config(
                workdir,
                config.to_dict(),
                extend=extend,
                steps=run.steps_of,
                schedule_of_total=run.schedule.of_total,
            )
        record = data_record.adopt(workdir, run.pipeline)
        if config.data.on_damage == "skip":
            run.pipeline.keep_damage(workdir)
        if writes:
            plan.show(run, description, workdir)

        with Checkpoints(workdir, keep=config.checkpoint.keep) as checkpoints:
            # Restore, or start; the rows so far must be there, and the same machine.
            state = run.create_state()
            restored = checkpoints.restore_newest(state)
            if restored is not None:
                state = restored
            elif start:
                state = starting_weights.applied(run, state, start)
            done = int(sharding.to_host(state.step))
            made_of = {
                "config": workdirs.config_digest(config.to_dict()),
                "data": record.sha256,
                **({"init": start.sha256} if start else {}),
            }
            if done:
                checkpoints.require_made_of(done, made_of)
            saved_with = checkpoints.metadata(done) if done else {}
            if writes:
                data_record.keep(workdir, record)
                if start:
                    starting_weights.keep(workdir, start)
                metrics.check_whole(workdir, run.rows_due(done))
                metrics.check_unchanged(workdir, done, saved_with)
                if done < run.steps:
                    progress.say_changes(workdirs.record_environment(workdir, resumed=done > 0))
                if done:
                    print("finished already" if done == run.steps else f"resumed after step {done}")

            # The loop.
            due = run.rows_due(done)
            log = metrics.MetricsLog(workdir, due, tracker.write) if writes else nothing()
            with log as rows_log:
                state, wrong = train(run, state, workdir, checkpoints, rows_log, made_of=made_of)

        # What the run gave.
        rows = metrics.read(workdir)
        if config.data.on_damage == "skip":
            description["damaged"] = run.pipeline.damaged  # images passed over
        result = metrics.result(rows, description)
        result["test_wrong"] = (
            wrong or metrics.kept_wrong(workdir, result) or tested_wrong(run, state)
        )
        if writes:
            workdirs.write_json(workdir / workdirs.RESULT, result)
            title = f"{description['network']} on {description['data']}, seed {config.seed}"
            curves.draw(rows, workdir / "curves.png", title=title)
            print(progress.result_table(result))
            print(f"curves: {workdir / 'curves.png'}")
    return state, result


def train(
    run: Experiment,
    state: TrainState,
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
    log: metrics.MetricsLog | None,
    *,
    made_of: Mapping[str, str],
) -> tuple[TrainState, dict[str, Any] | None]:
    """The loop from the state's step to the last: steps, rows of metrics, checkpoints.

    log: None in a process that writes nothing. Also returns which test images the last evaluation
    got wrong, in the form of result.json; None if no step was left. Raises UserError if the loss, a
    row or the state is not finite (such a state is never saved), Preempted when asked to stop.
    """
    update, evaluate, observe = compiled(run)
    start = int(sharding.to_host(state.step))
    clock = metrics.Clock(batch_size=run.config.batch_size)
    in_flight: deque[jax.Array] = deque()
    wrong: np.ndarray | None = None

    with (
        preemption.Preemption(workdir) as stop,
        progress.TrainingProgress(run, start, shown=log is not None) as display,
    ):
        for steps in run.dispatches(start):
            if run.estimates_curvature and steps.start % run.pipeline.steps_per_epoch == 0:
                state = estimates.with_curvature(run, state, steps.start)
            with run.alarms.fetching():
                inputs = run.pipeline.fetch(steps.start)
            state, loss = update(state, inputs, count=len(steps))
            in_flight.append(loss)
            if len(in_flight) > IN_FLIGHT:
                display.loss(in_flight.popleft().block_until_ready())

            # What is due after these steps; after the last one everything is.
            done = steps.stop
            due = run.due(done)
            asked = stop.requested()
            if due or asked:
                check_finite(state)
                if log is not None:
                    workdirs.require_held(workdir)
            if done == run.steps and run.config.bn_recompute_batches:
                state = estimates.with_batch_statistics(run, state)

            # A row: means of the training metrics since the last one, errors on the other splits.
            row: metrics.Row = {"step": done, "epoch": done / run.pipeline.steps_per_epoch}
            if "log" in due:
                row["learning_rate"] = float(sharding.to_host(state.metric_sums["learning_rate"]))
                row["train"] = metrics.means(state.metric_sums)
                if done % run.log_every == 0:  # else the end, and --extend may go on from here
                    state = state.replace(metric_sums=run.empty_metric_sums)
                clock.training_logged(done - start)
            if "evaluate" in due:
                with clock.paused():
                    for split in ("validation", "test"):
                        if split in run.pipeline.examples:
                            row[split], wrong = evaluate(state, run.pipeline.evaluation(split))
                if done % run.evaluate_every == 0:  # a schedule may wait for the error to stall
                    state = observe(state, row.get("validation", {}).get("error", 0.0))
            if len(row) > 2:
                if found := run.alarms.of_row(row):
                    row["alarms"] = found
                metrics.check_finite(row)
                row["clock"] = {**clock.read(), "waiting": run.alarms.waiting()}
                display.metrics(row)
                for line in run.alarms.unsaid(row):
                    display.line(f"alarm: {line}")
                if log is not None:
                    log.write(row)
            display.step(done)

            # A checkpoint, after its row is on disk: a resume finds both.
            if "save" in due or asked:
                if not sharding.to_host(is_finite(state)):
                    raise UserError(
                        f"weights or optimizer state are not finite after step {done}: stopped, "
                        "that state is not saved; a lower config.schedule.rate may help"
                    )
                error = row.get("validation", {}).get("error")
                rows = metrics.digests(workdir, done) if log is not None else {}
                checkpoints.save(done, state, validation_error=error, metadata={**made_of, **rows})
            if asked and done < run.steps:
                checkpoints.wait()
                raise preemption.Preempted(done)
    return state, None if wrong is None else metrics.packed(wrong)


def compiled(run: Experiment) -> tuple[Callable, Callable, Callable]:
    """The run's jitted functions: update(state, inputs, count=steps), evaluate(state, batches), and
    observe(state, validation error), by which the schedule takes an evaluation into account.

    evaluate returns mean metrics and which images are wrong, bool [images], in stored order.
    """
    whole = sharding.replicated(run.mesh)
    remember = jax.jit(run.schedule.after_evaluation, out_shardings=whole)

    step: Callable[..., Any] = partial(train_step, **run.step_parts)
    if run.config.parallel == "pmap":
        prepare, mapped = jax.jit(run.pipeline.prepare), sharding.pmapped(step, run.mesh)

        def update(state: TrainState, inputs: Any, count: int = 1) -> tuple[TrainState, jax.Array]:
            assert count == 1  # experiment.create refuses others
            state, measured = mapped(state, prepare(inputs, state.step))
            return state, measured["loss"]
    else:
        # The state is not donated: its memory stays as it is while a checkpoint is made of it.
        @partial(jax.jit, static_argnames="count", out_shardings=whole)
        def update(state: TrainState, inputs: Any, count: int = 1) -> tuple[TrainState, jax.Array]:
            # Gathering and augmenting happen inside the step: one dispatch, and XLA may fuse them.
            def one(carry: tuple[TrainState, Any], _: None) -> tuple[TrainState, jax.Array]:
                state, measured = step(carry[0], run.pipeline.prepare(inputs, carry[0].step))
                return state, measured["loss"]

            return repeated(one, (state, jnp.zeros(())), None, count)

    measured_on = jax.jit(
        partial(evaluation_step, network=run.evaluation_network, loss=run.evaluation_loss),
        out_shardings=whole,
    )

    def evaluate(
        state: TrainState, batches: Iterable[Batch]
    ) -> tuple[dict[str, float], np.ndarray]:
        parts = [sharding.to_host(measured_on(state.variables, batch)) for batch in batches]
        sums = [part for part, _, _ in parts]
        total = {name: sum(float(part[name]) for part in sums) for name in sums[0]}
        means = {name: value / total["count"] for name, value in total.items() if name != "count"}
        return means, np.concatenate([wrong[counted] for _, wrong, counted in parts])

    def observe(state: TrainState, validation_error: float) -> TrainState:
        return state.replace(schedule_state=remember(state.schedule_state, validation_error))

    return update, evaluate, observe


def tested_wrong(run: Experiment, state: TrainState) -> dict[str, Any]:
    """The "test_wrong" of a state, by one more evaluation."""
    _, evaluate, _ = compiled(run)
    return metrics.packed(evaluate(state, run.pipeline.evaluation("test"))[1])


def check_finite(state: TrainState) -> None:
    """Raises UserError that names the first step whose loss was not finite."""
    step = int(sharding.to_host(state.metric_sums["not_finite"]))
    if step >= 0:
        raise UserError(
            f"the loss of step {step} is not finite: stopped, that state is not saved; "
            "a lower config.schedule.rate may help"
        )


if __name__ == "__main__":
    command_line.run(main)
