"""voxseq: from volumes to the tables of the study. `voxseq plan` prints what will be run."""

import signal
import sys
from pathlib import Path

# A batch system announces the end of a job's time by SIGUSR1 to all of its processes, this
# Snakemake and its shell included. It is meant for voxseq, which sets a handler of its own.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
# A lost terminal asks to stop, unless nohup said otherwise: jobs end at their safe points.
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))

# The workspace's own code is used, also in a DVC experiment's copy of the workspace.
SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))


include: "workflow/rules/common.smk"
include: "workflow/rules/jobs.smk"
include: "workflow/rules/targets.smk"


onstart:
    begin_work()


onsuccess:
    record_in_dvc()
