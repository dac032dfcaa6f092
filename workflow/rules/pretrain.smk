"""Pre-training: one encoder a method, and one an ablation variant."""


rule pretrain_method:
    input:
        needs_of("pretrain"),
    output:
        marker_of("pretrain"),
    log:
        f"{LOGS}/pretrain/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="pretrain",
        job="{job}",
        fingerprint="{fingerprint}",
    threads: resources_of("pretrain").threads
    resources:
        mem_mb=memory_of("pretrain"),
        runtime=resources_of("pretrain").runtime,
        gpu=resources_of("pretrain").gpu,
        **across_nodes(resources_of("pretrain")),
    conda:
        "../envs/voxseq.yaml"
    message:
        "Pre-training {wildcards.job}"
    shell:
        run_job(launcher_of(resources_of("pretrain")))


use rule pretrain_method as pretrain_variant with:
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
        job=r"pretrain\.[A-Za-z0-9_.]+",
    message:
        "Ablation: pre-training {wildcards.job}"


use rule pretrain_method as pretrain_beyond with:
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
        job=r"pretrain\.[A-Za-z0-9_.]+",
    message:
        "Beyond the paper: pre-training {wildcards.job}"


rule pretrain:
    input:
        all_of("pretrain"),
    log:
        f"{LOGS}/pretrain.log",
    message:
        "All encoders are pre-trained"
