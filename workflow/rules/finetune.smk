"""Fine-tuning: methods by tasks, the ablation and the label ratios."""


use rule get_dataset as finetune_task with:
    input:
        needs_of("finetune"),
    output:
        marker_of("finetune"),
    log:
        f"{LOGS}/finetune/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/finetune/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="finetune",
        job="{job}",
        fingerprint="{fingerprint}",
    threads: resources_of("finetune").threads
    resources:
        mem_mb=memory_of("finetune"),
        runtime=resources_of("finetune").runtime,
        gpu=resources_of("finetune").gpu,
    message:
        "Fine-tuning {wildcards.job}"


use rule finetune_task as finetune_variant with:
    input:
        needs_of("ablation"),
    output:
        marker_of("ablation"),
    log:
        f"{LOGS}/ablation/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/ablation/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="ablation",
        job="{job}",
        fingerprint="{fingerprint}",
    wildcard_constraints:
        job=r"finetune\.[A-Za-z0-9_.]+",
    message:
        "Ablation: fine-tuning {wildcards.job}"


use rule finetune_task as finetune_fewer_labels with:
    input:
        needs_of("label_ratio"),
    output:
        marker_of("label_ratio"),
    log:
        f"{LOGS}/label_ratio/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/label_ratio/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="label_ratio",
        job="{job}",
        fingerprint="{fingerprint}",
    message:
        "Fewer labels: fine-tuning {wildcards.job}"


use rule finetune_task as finetune_beyond with:
    input:
        needs_of("beyond"),
    output:
        marker_of("beyond"),
    log:
        f"{LOGS}/beyond/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/beyond/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="beyond",
        job="{job}",
        fingerprint="{fingerprint}",
    wildcard_constraints:
        job=r"finetune\.[A-Za-z0-9_.]+",
    message:
        "Beyond the paper: {wildcards.job}"


rule finetune:
    input:
        all_of("finetune"),
    log:
        f"{LOGS}/finetune.log",
    message:
        "All tasks are fine-tuned"


rule ablation:
    input:
        all_of("ablation"),
    log:
        f"{LOGS}/ablation.log",
    message:
        "The ablation is done"


rule label_ratio:
    input:
        all_of("label_ratio"),
    log:
        f"{LOGS}/label_ratio.log",
    message:
        "The label ratios are done"


rule beyond:
    input:
        all_of("beyond"),
    log:
        f"{LOGS}/beyond.log",
    message:
        "All rows beyond the paper are done"
