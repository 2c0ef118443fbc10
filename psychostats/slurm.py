"""A script that starts a Dask cluster under SLURM, by dask-jobqueue.

In: how many workers, and what each may take.  Out: a Python script.  Knows SLURM by dask-jobqueue alone, and does not
import it: the script runs where SLURM is.

Every worker is a process of one thread. A job ends when its walltime does, so workers end themselves before, one after
another, and new jobs take their place: long work goes on.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from psychostats.errors import InputError

#: Workers and cores a job, at most: a slip of the keyboard is no order of a million jobs.
MOST_WORKERS, MOST_CORES = 10_000, 512

_MEMORY = re.compile(r"(\d{1,6})(MB|GB|TB|MiB|GiB|TiB)")
_WALLTIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):([0-5]\d):([0-5]\d)")
_NAME = re.compile(r"[\w.,@:+-]+")
_SHORTEST = 600  # seconds of a job; less is over before its workers have begun
_MARGIN = 0.1  # of the walltime, within which workers end themselves

_SCRIPT = '''\
"""Start {workers} workers under SLURM and wait; made by 'psychostats cluster'.

Needs dask-jobqueue (pip install '.[cluster]'), and a machine from which sbatch works and which the nodes can reach. Run
it there with the Python that has psychostats, in tmux or with nohup, and beside it any command that takes --scheduler,
with the address that is printed. Ctrl-C ends the jobs.
"""

import signal
import sys
import threading

from dask_jobqueue import SLURMCluster

OPTIONS = {{
{options}
    "scheduler_options": {{"dashboard_address": ":0"}},
}}
JOBS = {jobs}  # of {cores} worker{s} each


def main():
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with SLURMCluster(**OPTIONS) as cluster:
        if "--show" in sys.argv[1:]:  # the job script that sbatch is given
            print(cluster.job_script())
            return
        cluster.adapt(minimum_jobs=JOBS, maximum_jobs=JOBS)  # a job that ends is replaced
        print(cluster.scheduler_address, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
'''


@dataclass(frozen=True)
class Slurm:
    """What to ask SLURM for.

    Parameters
    ----------
    workers
        Processes of one thread, of all jobs together.
    cores
        Of a job, each with one worker.
    memory
        Of a worker: ``4GB``.
    walltime
        Of a job: ``HH:MM:SS``, or ``D-HH:MM:SS``.
    partition, account
        As SLURM has them; its own defaults where they are empty.
    python
        The Python on the nodes that has psychostats.
    interface
        The network by which nodes and scheduler reach one another, such as ``ib0``.

    Raises
    ------
    InputError
        If one cannot be.
    """

    workers: int
    python: str
    cores: int = 1
    memory: str = "4GB"
    walltime: str = "02:00:00"
    partition: str = ""
    account: str = ""
    interface: str = ""

    def __post_init__(self) -> None:
        for name, most in (("workers", MOST_WORKERS), ("cores", MOST_CORES)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(f"--{name} is {value:,}; allowed are 1 to {most:,}.")
        found = _MEMORY.fullmatch(self.memory)
        if found is None or not int(found[1]):
            raise InputError(f"--memory '{self.memory}' cannot be read; write the memory of one worker, such as 4GB.")
        if _WALLTIME.fullmatch(self.walltime) is None:
            raise InputError(f"--walltime '{self.walltime}' cannot be read; write HH:MM:SS or D-HH:MM:SS.")
        if self.seconds < _SHORTEST:
            raise InputError(
                f"--walltime is {self.walltime}; it must be at least 00:10:00, since workers start slowly."
            )
        for name in ("partition", "account", "interface"):
            value = getattr(self, name)
            if value and _NAME.fullmatch(value) is None:
                raise InputError(f"--{name} '{value}' is no name of SLURM's: letters, digits and . , @ : + - _ alone.")
        if not self.python or any(not letter.isprintable() for letter in self.python):
            raise InputError("--python must be the path of a Python on the nodes.")

    @property
    def jobs(self) -> int:
        """How many jobs that are; the last one may have more cores than are needed."""
        return -(-self.workers // self.cores)

    @property
    def seconds(self) -> int:
        """The walltime."""
        found = _WALLTIME.fullmatch(self.walltime)
        assert found is not None
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return ((24 * days + hours) * 60 + minutes) * 60 + seconds

    @property
    def lifetime(self) -> tuple[int, int]:
        """Seconds after which a worker ends itself, and by how many this differs from one to another."""
        spread = round(self.seconds * _MARGIN / 2)
        return self.seconds - 2 * spread, spread

    def script(self) -> str:
        """Return the script."""
        number, unit = _MEMORY.fullmatch(self.memory).groups()  # type: ignore[union-attr]
        lifetime, spread = self.lifetime
        options: dict[str, object] = {
            "cores": self.cores,
            "processes": self.cores,
            "memory": f"{int(number) * self.cores}{unit}",
            "walltime": self.walltime,
            "queue": self.partition or None,
            "account": self.account or None,
            "interface": self.interface or None,
            "python": shlex.quote(self.python),  # it becomes a line of a shell script
            "job_name": "psychostats",
            "worker_extra_args": ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{spread}s"],
        }
        lines = (
            f'    "{name}": {json.dumps(value, ensure_ascii=False)},'
            for name, value in options.items()
            if value is not None
        )
        return _SCRIPT.format(
            workers=f"{self.workers:,}",
            options="\n".join(lines),
            jobs=self.jobs,
            cores=self.cores,
            s="" if self.cores == 1 else "s",
        )
