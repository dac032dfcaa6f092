"""What a folder of predictions has already: a line for every finished case.

The first line says which models made them, and how; a folder never holds predictions of several.
A case is finished when its line stands here, its input is as it was, and its files are there.
Lines besides name files before they are written: what is not named was there before, and stays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named, write_named
from voxseq.base.files import read_text, size_of, write_text
from voxseq.predict.inputs import Case

JOURNAL = "predictions.jsonl"
#: Key of a line with files that are about to be written.
_OWN = "writes"


class Journal:
    """The journal of a folder, which is made where there is none.

    Args:
        out: the folder.
        made_by: models and options, as JSON values.

    Raises:
        DataError: the folder has predictions that were made otherwise.
        ResourceError: the machine failed.
    """

    def __init__(self, out: Path, made_by: Mapping[str, Any]) -> None:
        self.out, self._path = out, out / JOURNAL
        self._lines: dict[str, dict[str, Any]] = {}
        self._own: set[str] = set()
        # As it reads from the file, where tuples are lists.
        wanted = json.loads(json.dumps(made_by))
        if size_of(self._path) is None:
            write_text(self._path, json.dumps({"made_by": wanted}) + "\n")
            return
        first, *lines = _parsed(self._path)
        if first.get("made_by") != wanted:
            raise DataError(
                f"{self._path}: the folder holds predictions that other models made, or other "
                f"options ({_difference(first.get('made_by'), wanted)})",
                "predict into another folder, or remove this one",
            )
        self._lines = {str(line.get("case")): line for line in lines if "files" in line}
        self._own = {
            path for line in lines for path in (*line.get("files", ()), *line.get(_OWN, ()))
        }

    def require_own(self, paths: Iterable[Path], images: Iterable[Path] = ()) -> None:
        """Refuse to replace files that no prediction into this folder has written.

        Args:
            paths: files that are about to be written.
            images: what is predicted, for the message.

        Raises:
            DataError: naming the first that is there.
        """
        there = [p for p in paths if self._name(p) not in self._own and size_of(p) is not None]
        if not there:
            return
        is_image = any(there[0].samefile(image) for image in images if image.exists())
        what = "the image itself" if is_image else "a file that was there before"
        raise DataError(
            f"{there[0]}: the prediction would replace {what}", "predict into another folder"
        )

    def claim(self, paths: Collection[Path]) -> None:
        """Write that these files are about to be written.

        Raises:
            DataError: one of them is there already.
        """
        self.require_own(paths)
        names = sorted(set(map(self._name, paths)) - self._own)
        if names:
            self._append({_OWN: names})
            self._own.update(names)

    def finished(self, case: Case) -> bool:
        """Whether a case needs no more work."""
        line = self._lines.get(case.name)
        if line is None or line.get("input") != _identity(case):
            return False
        files: Mapping[str, int] = line.get("files", {})
        return all(size_of(self.out / path) == size for path, size in files.items())

    def add(self, case: Case, files: list[Path], values: Mapping[str, Any]) -> None:
        """Write that a case is finished.

        Args:
            case: the image.
            files: its results, which are in place.
            values: its row of the table.
        """
        sizes = {self._name(path): path.stat().st_size for path in files}
        line = {"case": case.name, "input": _identity(case), "files": sizes, "values": dict(values)}
        self._append(line)
        self._lines[case.name] = line

    def _name(self, path: Path) -> str:
        return path.relative_to(self.out).as_posix()

    def _append(self, line: Mapping[str, Any]) -> None:
        with write_named(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def values(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Rows of the table of those of some cases that are finished."""
        return {n: dict(self._lines[n]["values"]) for n in names if n in self._lines}


def read_made_by(out: Path) -> Mapping[str, Any]:
    """Models and options of a folder's predictions; empty where it has no journal.

    Raises:
        DataError: the journal is damaged.
        ResourceError: the machine failed.
    """
    if size_of(out / JOURNAL) is None:
        return {}
    made_by = _parsed(out / JOURNAL)[0].get("made_by", {})
    return made_by if isinstance(made_by, dict) else {}


def _parsed(path: Path) -> list[dict[str, Any]]:
    """The lines, without one that a killed call has left unfinished."""
    lines = read_text(path).split("\n")
    if lines[-1]:
        # What follows would join it.
        write_text(path, "\n".join(lines[:-1]) + "\n" if len(lines) > 1 else "")
    try:
        found = [json.loads(line) for line in lines[:-1]]
        if not found or not all(isinstance(line, dict) for line in found):
            raise ValueError("it has no first line")
    except ValueError as error:
        raise DataError(
            f"{path}: damaged ({error})", "remove it: the cases are then predicted again"
        ) from None
    return found


def _difference(found: Any, wanted: Mapping[str, Any]) -> str:
    if not isinstance(found, dict):
        return "unknown ones"
    keys = {k for k in {*found, *wanted} if found.get(k) != wanted.get(k)}
    if "models" in keys:
        # Their checksums differ then, and say nothing to a reader.
        keys.discard("weights")
    return ", ".join(f"{k}: {found.get(k)!r}, now {wanted.get(k)!r}" for k in sorted(keys))


def _identity(case: Case) -> list[list[Any]]:
    """Names, sizes and times of a case's files; empty where one is missing."""
    found = []
    for path in case.paths:
        try:
            with read_named(path):
                status = path.stat()
        except OSError:
            return []
        found.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return found
