"""How a file is closed that another thread may be about to write to, without a lock.

Between the moment a thread hands a file's number to the system and the moment the system takes the line, another thread
may end the run. Were the file closed there, its number could go to a file that is opened next, and the line with it.
So while a thread is inside the method that writes, the number stays taken: it stands for a file that refuses what is
written, and is given back when a later file is closed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

_kept: list[tuple[int, CodeType, object]] = []  # numbers that are still in somebody's hands


def retire(fd: int, writing: CodeType, owner: object) -> None:
    """Close a file, for which no new write begins any more, so that no write under way meets another file.

    Args:
        fd: The file's number.
        writing: The code of the method that writes to it.
        owner: The object whose method that is.
    """
    for entry in [*_kept, (fd, writing, owner)]:
        number, code, whose = entry
        if _is_inside(code, whose):
            if number == fd:
                _kept.append(entry)
                _refuse(number)
        elif number == fd or _taken(entry):
            os.close(number)


def _taken(entry: tuple[int, CodeType, object]) -> bool:
    try:
        _kept.remove(entry)
    except ValueError:
        return False  # another thread that ends a run was faster
    return True


def _is_inside(code: CodeType, owner: object) -> bool:
    """Whether a thread is in this method of this object; perhaps further down its stack, below a signal handler."""
    frames = list(sys._current_frames().values())
    found = False
    while frames:  # emptied, since our own frame is among them: what refers to it would keep alive all that called us
        frame: FrameType | None = frames.pop()
        while frame is not None:
            found = found or (frame.f_code is code and frame.f_locals.get("self") is owner)
            frame = frame.f_back
    return found


def _refuse(fd: int) -> None:
    """Put a file that takes no writing in the place of this one; if none can be had, late lines still go into it."""
    try:
        nowhere = os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return
    try:
        os.dup2(nowhere, fd, inheritable=False)
    except OSError:
        pass  # as above
    finally:
        os.close(nowhere)
