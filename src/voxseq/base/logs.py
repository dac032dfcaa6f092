"""Logs of the program and of single runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from voxseq.base.commands import laid_over, with_overlays
from voxseq.base.errors import VoxseqError


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Send the log to the run's own file as well."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("voxseq")
    logger.addHandler(handler)
    try:
        yield
    except VoxseqError as error:
        logger.error("failed: %s", error)
        if error.__cause__ is not None:
            # For who looks into it; a user is helped by the message alone.
            cause = logger.makeRecord(logger.name, logging.DEBUG, __file__, 0, "because", (), None)
            cause.exc_info = (type(error.__cause__), error.__cause__, error.__cause__.__traceback__)
            handler.handle(cause)
        raise
    except Exception:
        logger.exception("failed")
        raise
    except BaseException as error:
        logger.info("stopped: %s", error or type(error).__name__)
        raise
    finally:
        logger.removeHandler(handler)
        # The work is done, or has its own error: a log that lacks its end changes neither.
        with suppress(OSError):
            handler.close()


def setup_logging(verbose: bool = False) -> None:
    """Plain lines on standard error."""
    # A log that cannot be written, on a full disk, is no reason to stop or to print more.
    logging.raiseExceptions = False
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("matplotlib", "PIL", "fsspec", "lightning", "highdicom"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def open_streams() -> None:
    """Open output and errors where whoever started the program has closed them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, stream)


class SnakemakeWords(logging.Filter):
    """Replace messages of Snakemake by ones with a next step; keep a dry run on one screen.

    Args:
        brief: of a dry run tell how many jobs there are of each kind, and no more.
        owner: who works in this folder at the moment.
        forced: whether finished jobs were asked for by force.
        overlays: files of the study that are laid over params.yaml.
    """

    #: Answer to ``--force`` and the like.
    FORCED = (
        "-f, -F and -R (--force, --forceall, --forcerun) do nothing here: a run that is finished "
        "stays finished\n  next: `voxseq forget RUN…` has runs done again by the next call, "
        "such as `voxseq forget pretrain/ours`; `voxseq plan` lists all runs"
    )
    #: Said of notes that only the workflow reads.
    _TEMPORARY = ("Removing temporary output", "Would remove temporary output")
    #: Said when Ctrl-C stops the jobs, and when SIGTERM has no more of them started.
    _CANCELS, _ENDS = "Terminating processes on user request", "Will exit after finishing"

    def __init__(
        self,
        *,
        brief: bool,
        owner: Callable[[], object | None],
        forced: Callable[[], bool],
        overlays: Sequence[Path] = (),
    ) -> None:
        super().__init__()
        self.brief, self.owner, self.forced, self.overlays = brief, owner, forced, overlays
        self._said: set[str] = set()
        self._is_cancelled = self._is_ending = self._has_failed = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is shown; its text may be replaced."""
        text, event = str(record.msg), getattr(record, "event", None)
        if text.startswith(self._TEMPORARY):
            return False
        if self.brief:
            if event == "job_info" or text.startswith("Reasons:") or text in self._said:
                return False
            if event == "run_info":
                # The table of jobs, which comes once more at the end.
                self._said.add(text)
        if text.startswith("This was a dry-run"):
            if self.forced():
                record.msg = self.FORCED
            elif self.brief:
                plan = with_overlays("voxseq plan", self.overlays)
                files = f" {laid_over('--configfile', self.overlays)}" if self.overlays else ""
                record.msg = (
                    f"A dry run: nothing was done. `{plan}` lists every run with its state,\n"
                    f"`snakemake -n --quiet reason{files}` every job."
                )
        self._is_cancelled |= text.startswith(self._CANCELS)
        self._is_ending |= text.startswith(self._ENDS)
        if event in ("job_error", "group_error"):
            if self._is_cancelled:
                # They were stopped, and say so at length.
                return False
            self._has_failed = True
        if (
            self._is_cancelled or (self._is_ending and not self._has_failed)
        ) and "At least one job did not complete" in text:
            record.msg = "Stopped on request. The same command resumes; finished runs are kept."
        if getattr(record, "exception", "") == "LockException":
            owner = self.owner()
            if owner is not None:
                record.msg = (
                    f"another workflow is at work in this folder: {owner}\n"
                    "  next: wait for it, or stop it with `kill`; nothing has to be unlocked"
                )
        return True


def say_last(text: str = "") -> None:
    """Last words. A full disk or a closed pipe changes nothing of the status that follows."""
    for stream, words in ((sys.stderr, text and f"{text}\n"), (sys.stdout, "")):
        try:
            stream.write(words)
            stream.flush()
        except OSError:
            # The interpreter flushes once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
