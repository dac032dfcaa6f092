"""Requests to stop: SIGTERM, SIGUSR1, SIGHUP and SIGINT end the work at the next safe point.

Schedulers send the first two before they kill, a lost terminal the third, Ctrl-C the last. Most
work can be dropped anywhere, because a run without its marker is recomputed; a training step is
finished first, so that a checkpoint can follow it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from voxseq.base.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)
#: Those of a terminal, which nohup and shells ignore on behalf of what runs in the background.
_OF_TERMINALS = (signal.SIGHUP, signal.SIGINT)
#: Seconds that a held block may still take after a request; a scheduler waits 20 or more.
GRACE = 12.0
#: Seconds after which a request that nobody took notice of is made again.
_REPEAT = 5.0


class StopRequests:
    """Requests that signals have made.

    Attributes:
        requested: name of the signal that arrived; "" before one does.
    """

    def __init__(self) -> None:
        self.requested = ""
        self._held = 0
        self._watched = False
        self._closed = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the block end before a request takes effect; it has :data:`GRACE` seconds."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self.requested and not self._watched:
            self._raise()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Leave it to the block to look at :attr:`requested`; it has :data:`GRACE` seconds."""
        self._watched = True
        with self.held():
            yield

    def close(self) -> None:
        """Take no more notice of signals: the work is ending."""
        self._closed = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)

    def arrived(self, number: int, _: FrameType | None) -> None:
        """Handler of the signals."""
        if self._closed:
            return
        if not self.requested:
            signal.setitimer(signal.ITIMER_REAL, GRACE if self._held else _REPEAT, _REPEAT)
        self.requested = signal.Signals(number).name
        if not self._held:
            self._raise()

    def expired(self, *_: object) -> None:
        """Handler of the alarm: the grace period is over, or an exception got lost.

        Python drops exceptions that a handler raises inside a destructor or a callback; and what
        was interrupted may hold a lock for which its own end then waits.
        """
        if self._closed or not self.requested:
            return
        self._raise()

    def _raise(self) -> None:
        raise Interrupted(
            f"stopped by {self.requested}; finished work is kept, and the same command resumes"
        )


@contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Turn :data:`SIGNALS` into :class:`Interrupted` for the length of the block.

    A signal that nohup or a shell ignores stays ignored.

    An error that follows a request, such as that of a worker which the same signal ended, counts as
    the interruption.
    """
    stop = StopRequests()
    ignored = [n for n in _OF_TERMINALS if signal.getsignal(n) == signal.SIG_IGN]
    heeded = [n for n in SIGNALS if n not in ignored]
    before = {number: signal.signal(number, stop.arrived) for number in heeded}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, stop.expired)
    try:
        yield stop
    except Exception as error:
        if not stop.requested:
            raise
        raise Interrupted(f"stopped by {stop.requested}: {error}") from error
    finally:
        stop.close()
        for number, handler in before.items():
            signal.signal(number, handler)
