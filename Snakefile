"""voxseq: from volumes to the tables of the study. `voxseq plan` lists the runs."""

import signal
import sys
from pathlib import Path

# A batch system announces the end of a job's time by SIGUSR1 to all of its processes, this
# Snakemake and its shell included. It is meant for voxseq, which sets a handler of its own.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
# A lost terminal asks to stop, unless nohup said otherwise: jobs end at their safe points.
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))

# A checkout's own code is used, also in a DVC experiment's copy of it; a workspace that `voxseq new`
# has made has none, and uses the installed package.
SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))


include: "workflow/rules/common.smk"
include: "workflow/rules/jobs.smk"


# Here and in no file that is included: Snakemake takes the target of a call without one from here.
#: Target → its stages and the message at its end.
TARGETS = {
    "reproduce_tables": (STAGES, "All tables and figures are in {RESULTS}"),
    "download": (["download"], "All data sets are here"),
    "preprocess": (["preprocess"], "All volumes are prepared"),
    "sequences": (["sequences"], "The sequence index is built"),
    "data": (["download", "preprocess", "sequences"], "All data are ready for training"),
    "pretrain": (["pretrain"], "All encoders are pre-trained"),
    "finetune": (["finetune"], "All tasks are fine-tuned"),
    "ablation": (["ablation"], "The ablation is done"),
    "label_ratio": (["label_ratio"], "The label ratios are done"),
    "beyond": (["beyond"], "All rows beyond the paper are done"),
    "scores": (["scores"], "The scores of all seeds are in {RESULTS}/scores"),
    "tables": (["tables"], "The tables are in {RESULTS}/tables"),
    "figures": (["figures"], "The figures are in {RESULTS}/figures"),
}


for _target, (_stages, _said) in TARGETS.items():

    rule:
        name:
            _target
        default_target: _target == "reproduce_tables"
        localrule: True
        input:
            all_of(*_stages),
        log:
            f"{LOGS}/{_target}.log",
        message:
            _said


for _seed in range(CONFIG.seeds):

    rule:
        name:
            f"seed_{_seed}"
        localrule: True
        input:
            PLAN.marker(PLAN.jobs["scores", f"s{_seed}"]),
        log:
            f"{LOGS}/seed_{_seed}.log",
        message:
            f"Seed {_seed} is done: {RESULTS}/scores/seed-{_seed}.json"


rule recorded:
    """Work that gives onsuccess, which records, its turn."""
    localrule: True
    output:
        touch(RECORDED),
    log:
        f"{LOGS}/recorded.log",
    message:
        "An earlier call was stopped before its results were recorded"


onstart:
    begin_work()


onsuccess:
    SHOWN.stop()
    record_in_dvc()


onerror:
    SHOWN.stop()
