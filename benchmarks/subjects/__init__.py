"""One adapter a tracker: the same few acts, each in the tracker's own plain words.

A subject's module has ``IMPORTS``, what a user's script would import, and ``Space``, a place where this tracker keeps
runs. `benchmarks.worker` loads it inside the subject's own virtual environment; trackers are imported in methods.

- ``Space(folder)``: the place, made ready
- ``run(config, body, final)``: one run; ``body(log)`` logs with ``log(metrics, step)``; all of it is safe at the return
- ``recovered() -> (steps, state)``: what a reader finds of the only run: points of ``loss``, and its state as shown
- ``query() -> list``: all runs by the metric ``loss``, best first, through the tracker's own query, where it has one
- ``count() -> int``, where it has none, or a slow one: how many whole runs there are
- ``multiply(times)``, where it is cheap: copies of all runs, so many times, written as the tracker would have
"""
