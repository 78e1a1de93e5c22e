"""Where the work is done: this process, or workers."""

from typing import Literal

from pydantic import Field

from warmup_distill.recipe.section import Section, unit

MOST_WORKERS = 65_536


class ClusterSection(Section):
    """Workers under Ray, for every stage that computes. No stage depends on what is said here;
    the sums of a training over several processes are taken in another order, see docs/scale.md."""

    num_workers: int = Field(ge=1, le=MOST_WORKERS, json_schema_extra=unit("processes"))
    """Processes that compute side by side."""
    address: str = "local"
    """`local` starts Ray on this machine and stops it at the end; `auto` finds the cluster that
    this machine belongs to; or HOST:PORT of its head."""
    gpus_per_worker: float | None = Field(None, ge=0, json_schema_extra=unit("GPUs"))
    """None is one if the machines have any."""
    cpus_per_worker: float | None = Field(None, gt=0, json_schema_extra=unit("cores"))
    """Also the threads of a worker; None shares out this machine's, or is 1 on a cluster."""
    part_timeout: float = Field(300.0, ge=1, json_schema_extra=unit("seconds"))
    """Seconds without a sign of life after which a part is sent to another worker. A part that
    does give signs has at least as long, and ten times as long as the longest one before."""
    max_failures: int = Field(8, ge=0, json_schema_extra=unit("failures"))
    """Parts or trainings that may be lost on workers before a stage stops."""
    device: Literal["a100-40gb", "a100-80gb", "h100", "h200", "b200", "l40s", "rtx4090"] | None = (
        None
    )
    """What a worker has, for the hours that `plan` names; nothing else reads it."""
    price_per_hour: float | None = Field(None, ge=0, json_schema_extra=unit("any currency"))
    """Of one worker, for the costs that `plan` names."""
    network_gigabits: float = Field(100.0, gt=0, json_schema_extra=unit("Gbit/s"))
    """Between two machines, all adapters of one machine together; for `plan`."""
