"""Show what runs are doing while the workflow waits for them.

In a terminal a table below Snakemake's messages is drawn anew every other second; in a log there
is one line a minute for each run. Both come from the records that runs keep, so they also show
jobs that a cluster does elsewhere.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from voxseq.base.errors import VoxseqError
from voxseq.base.progress import duration, in_words
from voxseq.engine.states import RunState, running
from voxseq.engine.workspace import Workspace

#: Seconds between two looks in a terminal, and between two lines of a log about a run.
LOOK, LINE = 2.0, 60.0


class RunsShown:
    """Shows the runs of a workspace that are under way, from :meth:`start` to :meth:`stop`.

    Args:
        workspace: the folder and its plan.
        logger: Snakemake's, whose messages stand above the table.
    """

    def __init__(self, workspace: Workspace, logger: logging.Logger) -> None:
        self._look: Callable[[], list[RunState]] = lambda: running(workspace)
        self._logger = logger
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._handlers = _terminal_handlers(logger)

    def start(self) -> None:
        """Begin, in a thread that ends with the process."""
        show = self._show_table if self._handlers else self._show_lines
        self._thread = threading.Thread(target=show, name="runs shown", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End; may be called again."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _found(self) -> list[RunState]:
        try:
            return self._look()
        except (OSError, VoxseqError):
            # Nothing rests on this look; the next one may do.
            return []

    def _show_table(self) -> None:
        stream = sys.stderr
        # What others print there goes above the table, which is removed at the end.
        with Live(
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        ) as live:
            # A process that is killed would leave the terminal without one.
            live.console.show_cursor(True)
            for handler in self._handlers:
                handler.setStream(sys.stderr)
            try:
                while not self._over.wait(LOOK):
                    live.update(table_of(self._found()), refresh=True)
            finally:
                for handler in self._handlers:
                    handler.setStream(stream)

    def _show_lines(self) -> None:
        said: dict[str, float] = {}
        while not self._over.wait(LOOK):
            now = time.monotonic()
            for found in self._found():
                words = in_words(found.record)
                if words and now - said.setdefault(found.run.id, now) >= LINE:
                    said[found.run.id] = now
                    doing = found.record["doing"]
                    self._logger.info(f"voxseq: {found.run.id}: {doing}, {words}")


def _terminal_handlers(logger: logging.Logger) -> list[logging.StreamHandler]:  # type: ignore[type-arg]
    """Handlers that write to a terminal which can be drawn on; none: plain lines it is."""
    if not Console(stderr=True).is_terminal or Console(stderr=True).is_dumb_terminal:
        return []
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]


def table_of(states: Sequence[RunState]) -> Table:
    """The runs that are under way, one row each."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "doing", "done", "loss", "samples/s", "left"):
        table.add_column(name, justify="left" if name in ("run", "doing") else "right")
    for found in states:
        record = found.record
        known = "done" in record
        table.add_row(
            found.run.id,
            str(record.get("doing", "beginning")),
            f"{record['done']}/{record['total']}" if known else "",
            *(f"{record[k]:.3g}" if k in record else "" for k in ("loss", "samples_per_second")),
            duration(record["seconds_left"]) if "seconds_left" in record else "",
        )
    return table if states else Table(box=None, show_header=False)
