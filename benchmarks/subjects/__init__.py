"""One adapter a tracker: the same few acts, each in the tracker's own plain words.

A subject's module has ``IMPORTS`` (what a script of a user would import), ``SPACE`` (a class of the acts below), and is
loaded by `benchmarks.worker` inside the subject's own virtual environment, so it imports the tracker inside its methods.

- ``Space(folder)``: where this tracker keeps its runs, made ready
- ``begin(config) -> log(metrics, step)``: open a run, and how to log in it
- ``end(metrics)``: record the final metrics and close the run, all of it on disk
- ``recovered() -> (steps, state)``: what a reader finds of the only run: steps of ``loss``, and the state it is shown in
- ``query() -> values``: all runs sorted by the metric ``loss``, best first, through the tracker's own way to list
"""
