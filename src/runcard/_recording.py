"""What records a run, loaded whole when the first one begins: from its opening to its end, nothing is left to load.

A signal handler or a `__del__` may open, log to and end runs at any moment, in the middle of an import too. What is
there by half then would serve it by half, and fail in the user's code. So all is loaded here, and the name that `_run`
asks for comes last: who does not find it came in the middle of just this.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import traceback
from datetime import datetime

from runcard import _actions, _closing, _files, _opening, _values_arrays, _values_forms, _values_walk

# The functions of a run import these when they are called: too late where no more files can be opened.
_LOADED = (
    datetime,  # before orjson, which takes it in C: one that is there by half ended the process
    *(hashlib, json, shutil, tempfile, traceback),
    *(_actions, _closing, _files, _values_arrays, _values_forms, _values_walk),
)

opening = _opening
