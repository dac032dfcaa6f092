"""voxseq: from volumes to the tables of the study. `voxseq plan` prints what will be run."""

import sys
from pathlib import Path

# The workspace's own code is used, also in a DVC experiment's copy of the workspace.
SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/report.smk"


localrules:
    reproduce_tables,
    download,
    preprocess,
    sequences,
    data,
    pretrain,
    finetune,
    ablation,
    label_ratio,
    beyond,
    tables,
    figures,


rule reproduce_tables:
    default_target: True
    input:
        markers(*STAGES),
    log:
        f"{LOGS}/reproduce_tables.log",
    message:
        "All tables and figures are in {RESULTS}"


onsuccess:
    record_in_dvc()
