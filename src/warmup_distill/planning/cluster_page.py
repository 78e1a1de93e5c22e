"""A run on workers as lines of text: first hours, price and what bounds them, then sizes."""

from collections.abc import Sequence

from warmup_distill.page.words import count, duration
from warmup_distill.planning.bounds import bound, helps
from warmup_distill.planning.devices import GIB
from warmup_distill.planning.estimates import memory
from warmup_distill.planning.limits import ASSUMED
from warmup_distill.planning.outlook import Outlook, Trouble, reached
from warmup_distill.planning.spread import MACHINE, READING, STARTING
from warmup_distill.planning.work import Piece, Steps
from warmup_distill.recipe.batches import most_processes

PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def cluster_lines(outlook: Outlook, compared: Sequence[int], trouble: Trouble) -> list[str]:
    """The lines of the plan that are about workers.

    Args:
        compared: numbers of workers to simulate.
    """
    lines = [""]
    if outlook.costs:
        lines += [*_hours(outlook), ""]
    lines += [*_sizes(outlook), ""]
    if outlook.costs:
        lines += [*_compared(outlook, compared, trouble), ""]
    return [*lines, *_assumed(outlook)]


def _hours(outlook: Outlook) -> list[str]:
    workers = outlook.cluster.num_workers
    stages, pieces, given = outlook.stages(workers), outlook.pieces, outlook.terms
    wall = outlook.wall(workers)
    rows = [["stage", "time", "bound by", "more workers help up to"]]
    rows += [
        [
            stage,
            duration(sum(one.wall for one in found)),
            bound(stage, pieces[stage], found, workers, given, sampled=outlook.sampled),
            helps(stage, pieces[stage], given),
        ]
        for stage, found in stages.items()
    ]
    price = outlook.price(workers, wall)
    money = f", price {price:,.2f}" if price else ""
    return [
        f"workers    {_workers(outlook)}",
        f"in all     about {duration(wall)}, {workers * wall / 3600:,.1f} worker-hours{money}, "
        f"{outlook.counted}",
        *_table(rows, right={1}),
    ]


def _workers(outlook: Outlook) -> str:
    number, device = count(outlook.cluster.num_workers), outlook.device
    if device is None:
        return f"{number} like the one that was measured" if outlook.costs else number
    flops, bandwidth = device.flops / 1e12, device.bandwidth / 1e12
    return (
        f"{number}, each with one {outlook.cluster.device} ({flops:,.0f} TFLOP/s, "
        f"{bandwidth:.2f} TB/s, {device.memory // GIB} GiB)"
    )


def _sizes(outlook: Outlook) -> list[str]:
    recipe, facts, given = outlook.recipe, outlook.facts, outlook.terms
    workers, tokens, done = outlook.cluster.num_workers, outlook.tokens(), outlook.operations()
    needed = memory(recipe, facts)
    rows = [["stage", "shared out as", "tokens", "operations", "memory", "or by FSDP", "reads",
             "exchanges"]]  # fmt: skip
    for stage, pieces in outlook.pieces.items():
        steps = next((one for one in pieces if isinstance(one, Steps)), None)
        sharded = exchanged = "-"
        if steps:
            processes = most_processes(steps.batch, workers)
            sharded = _bytes(memory(recipe, facts, processes)[stage])
            exchanged = f"{_bytes(given.gradients[stage])} a step" if processes > 1 else "-"
        rows.append(
            [stage, ", ".join(map(_shared, pieces)), short(tokens[stage]), short(done[stage]),
             _bytes(needed[stage]), sharded, _bytes(given.loaded[stage]), exchanged]
        )  # fmt: skip
    return [*_table(rows, right={2, 3, 4, 5, 6}), _network(outlook)]


def _network(outlook: Outlook) -> str:
    """What goes over the network: once to each worker, and in each step from each process."""
    workers, given = outlook.cluster.num_workers, outlook.terms
    sent = 0.0
    for stage, pieces in outlook.pieces.items():
        for steps in (one for one in pieces if isinstance(one, Steps)):
            processes = most_processes(steps.batch, workers)
            sent += steps.count * 2 * (processes - 1) * given.gradients[stage]
    read = workers * sum(given.loaded[stage] for stage in outlook.pieces)
    return (
        f"network    weights {_bytes(read)} to all workers, gradients {_bytes(sent)} in all steps"
    )


def _shared(piece: Piece) -> str:
    if isinstance(piece, Steps):
        return f"{count(piece.count)} steps of {count(piece.batch)}"
    parts = len(piece.costs)
    return "1 part" if parts == 1 else f"{count(parts)} parts"


def _compared(outlook: Outlook, compared: Sequence[int], trouble: Trouble) -> list[str]:
    priced = outlook.cluster.price_per_hour is not None
    rows = [["workers", "time", "busy", "with trouble", "busy", "lost", "worker-hours"]]
    rows[0] += ["price"] if priced else []
    worst = 0.0
    for workers in compared:
        wall, (longer, lost) = outlook.wall(workers), outlook.troubled(workers, trouble)
        worst = max(worst, lost)
        rows.append(
            [count(workers), duration(wall), f"{outlook.efficiency(workers, wall):.0%}",
             duration(longer), f"{outlook.efficiency(workers, longer):.0%}", f"{lost:.1f}",
             f"{workers * wall / 3600:,.1f}"]
            + ([f"{outlook.price(workers, wall):,.2f}"] if priced else [])
        )  # fmt: skip
    lines = [f"trouble    {trouble}; the mean of some simulations"]
    lines += _table(rows, right=set(range(8)))
    most = outlook.cluster.max_failures
    if worst > most:
        lines.append(
            f"           a stage is expected to lose up to {worst:.0f} parts, and stops after "
            f"cluster.max_failures ({most}): raise it"
        )
    return lines


def _assumed(outlook: Outlook) -> list[str]:
    """What the numbers rest on."""
    network = outlook.cluster.network_gigabits
    return [
        f"assumed    {_speed(outlook)}",
        f"           a worker is there after {STARTING:g} s and reads {READING / 1e9:g} GB/s, "
        "however many there are, and all are held to the end",
        f"           {MACHINE} workers to a machine, {network:g} Gbit/s between machines, "
        f"{ASSUMED.exchanging:.0%} of it used; nothing overlaps with an exchange of gradients",
    ]


def _speed(outlook: Outlook) -> str:
    if outlook.costs is None:
        return "no times: name cluster.device, or add --measure"
    if outlook.timed:
        known = ", ".join(f"{name} {share:.1%}" for name, share in reached(outlook).items())
        return "measured on one worker" + (f"; of this device's limits: {known}" if known else "")
    slower = "; these are for bfloat16, and the recipe's float32 is many times slower"
    return (
        f"sampling gets {ASSUMED.sampling:.0%} of the memory's bandwidth, checking "
        f"{ASSUMED.checking:.0%} and training {ASSUMED.training:.0%} of the operations, until "
        "--measure runs on such a device"
    ) + (slower if outlook.recipe.dtype == "float32" else "")


def short(value: float) -> str:
    """A large number in three digits.

    Example:
        >>> short(6.12e7), short(5.614e17), short(12)
        ('61.2 M', '561 P', '12')
    """
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def _bytes(size: float) -> str:
    for unit, name in ((2**40, "TiB"), (GIB, "GiB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 2**20:,.0f} MiB"


def _table(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Rows with their columns below one another; those whose numbers are given at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
