"""Where the parts of a stage are computed. A stage does not know: it gives a task and its parts.

places.py      what a place is, and the place that is this process
choosing.py    which place the recipe names
workers.py     the place that is many processes, under Ray
parts.py       the open parts of some work: sent, heard of, late, lost, and sent again
remote.py      what runs on a worker
ranks.py       a training over several workers
trainer.py     Ray Train as it is set up for it
letters.py     what the processes of a training and the driver write to one another
saying.py      what is said on a worker, and said again by the driver
starting.py    a Ray of our own on this machine, or somebody's cluster
folder.py      where a Ray of our own keeps its files
environment.py what Ray is told through the environment
"""
