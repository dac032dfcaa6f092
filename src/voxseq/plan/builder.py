"""Adding runs with their fingerprints, and grouping them into jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from voxseq.base.digest import digest
from voxseq.config import Config
from voxseq.plan.model import Job, Plan, Run, Settings, Stage, dump


@dataclass
class Builder:
    """Collects runs; a run's inputs must be added before it."""

    code: Mapping[str, int]
    runs: dict[str, Run] = field(default_factory=dict)
    _sizes: Counter[tuple[Stage, str]] = field(default_factory=Counter)

    def add(
        self,
        stage: Stage,
        action: str,
        key: str,
        config: BaseModel | Settings,
        inputs: Iterable[str] = (),
        job: str | None = None,
    ) -> str:
        """Add one run and return its id; its inputs must be there already."""
        run_id = f"{stage}/{key}"
        needs = tuple(sorted(set(inputs)))
        fingerprint = digest(
            {
                "id": run_id,
                "action": action,
                "config": dump(config),
                "code": {action: self.code.get(action, 0)},
                "inputs": {name: self.runs[name].fingerprint for name in needs},
            }
        )
        name = job if job is not None else key.replace("/", ".")
        self.runs[run_id] = Run(run_id, stage, action, config, needs, fingerprint, name)
        return run_id

    def shared_job(self, stage: Stage, row: str, size: int) -> str:
        """Name of the job for the next run of a row: ``size`` runs share one."""
        number = self._sizes[stage, row]
        self._sizes[stage, row] += 1
        return f"{row}.part{number // size}"

    def plan(self, config: Config) -> Plan:
        """Group the runs into jobs."""
        groups: dict[tuple[Stage, str], list[Run]] = {}
        for run in self.runs.values():
            groups.setdefault((run.stage, run.job), []).append(run)
        jobs = {}
        for (stage, name), members in groups.items():
            needs = {
                (self.runs[i].stage, self.runs[i].job) for run in members for i in run.inputs
            } - {(stage, name)}
            fingerprint = digest([run.fingerprint for run in members])
            jobs[stage, name] = Job(
                stage, name, members[0].action, tuple(members), tuple(sorted(needs)), fingerprint
            )
        return Plan(config.scale, config.results, self.runs, jobs)
