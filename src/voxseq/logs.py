"""Logs of the program and of single runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from voxseq.errors import VoxseqError


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
        logger.info("stopped: %s", error)
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
    for noisy in ("matplotlib", "PIL", "fsspec", "lightning"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def open_streams() -> None:
    """Open output and errors where whoever started the program has closed them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, stream)


def say_last(text: str = "") -> None:
    """Last words. A full disk or a closed pipe changes nothing of the status that follows."""
    for stream, words in ((sys.stderr, text and f"{text}\n"), (sys.stdout, "")):
        try:
            stream.write(words)
            stream.flush()
        except OSError:
            # The interpreter flushes once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
