"""A SLURM of one node for tests: its own key, configuration and folder; nothing else is touched.

Of Debian's packages slurmctld, slurmd, slurm-client and munge; SLURM's daemons need root.
"""

import contextlib
import os
import pathlib
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "srun", "squeue", "scontrol")

CONFIG = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={next_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=10
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


def missing() -> str:
    """Why no SLURM can be started here; "" if one can."""
    places = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=places) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (slurmctld, slurmd, slurm-client, munge)"
    return "" if os.geteuid() == 0 else "SLURM's daemons need root"


@contextlib.contextmanager
def started(folder: pathlib.Path, cores: int = 2) -> Iterator[None]:
    """Runs the daemons, and makes sbatch and the others in this environment use them."""
    port = 20_000 + os.getpid() % 10_000
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    os.chmod(folder / "munge", 0o755)
    key, config = folder / "munge" / "key", folder / "slurm.conf"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    config.write_text(
        CONFIG.format(
            folder=folder, cores=cores, port=port, next_port=port + 1, host=platform.node()
        )
    )
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ["SLURM_CONF"] = str(config)
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    commands = (
        ["munged", "--foreground", "--force", f"--socket={folder}/munge/socket", *munge],
        ["slurmctld", "-D", "-f", str(config)],
        ["slurmd", "-D", "-f", str(config)],
    )
    daemons = list[subprocess.Popen]()
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("w") as out:
                daemons.append(subprocess.Popen(command, stdout=out, stderr=out))
            if command[0] == "munged":
                _until(lambda: (folder / "munge" / "socket").exists(), daemons)
        _until(lambda: said("sinfo", "--noheader", "--format=%T").startswith("idle"), daemons)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=60)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def said(*command: str) -> str:
    """What a command prints; "" if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def _until(true: object, daemons: list[subprocess.Popen], seconds: float = 60) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        ended = [daemon.args for daemon in daemons if daemon.poll() is not None]
        assert not ended, ended
        assert time.monotonic() < end, [daemon.args for daemon in daemons]
        time.sleep(0.2)
