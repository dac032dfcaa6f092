"""The targets of users: stages of the plan, groups of them, and everything."""

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


rule recorded:
    """Work that gives onsuccess, which records, its turn."""
    localrule: True
    output:
        touch(RECORDED),
    log:
        f"{LOGS}/recorded.log",
    message:
        "An earlier call was stopped before its results were recorded"
