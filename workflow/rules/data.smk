"""From the data sets to the volume store and the sequence index."""


rule get_dataset:
    input:
        needs_of("download"),
    output:
        marker_of("download"),
    log:
        f"{LOGS}/download/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/download/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="download",
        job="{job}",
        fingerprint="{fingerprint}",
    threads: resources_of("download").threads
    resources:
        mem_mb=memory_of("download"),
        runtime=resources_of("download").runtime,
        gpu=resources_of("download").gpu,
    conda:
        "../envs/voxseq.yaml"
    message:
        "Getting and checking {wildcards.job}"
    shell:
        run_job()


use rule get_dataset as prepare_volumes with:
    input:
        needs_of("preprocess"),
    output:
        marker_of("preprocess"),
    log:
        f"{LOGS}/preprocess/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/preprocess/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="preprocess",
        job="{job}",
        fingerprint="{fingerprint}",
    threads: resources_of("preprocess").threads
    resources:
        mem_mb=memory_of("preprocess"),
        runtime=resources_of("preprocess").runtime,
        gpu=resources_of("preprocess").gpu,
    message:
        "Preparing the volumes of {wildcards.job}"


use rule get_dataset as index_sequences with:
    input:
        needs_of("sequences"),
    output:
        marker_of("sequences"),
    log:
        f"{LOGS}/sequences/{{job}}-{{fingerprint}}.log",
    benchmark:
        f"{BENCHMARKS}/sequences/{{job}}-{{fingerprint}}.tsv"
    params:
        stage="sequences",
        job="{job}",
        fingerprint="{fingerprint}",
    threads: resources_of("sequences").threads
    resources:
        mem_mb=memory_of("sequences"),
        runtime=resources_of("sequences").runtime,
        gpu=resources_of("sequences").gpu,
    message:
        "Building the sequence index"


rule download:
    input:
        all_of("download"),
    log:
        f"{LOGS}/download.log",
    message:
        "All data sets are here"


rule preprocess:
    input:
        all_of("preprocess"),
    log:
        f"{LOGS}/preprocess.log",
    message:
        "All volumes are prepared"


rule sequences:
    input:
        all_of("sequences"),
    log:
        f"{LOGS}/sequences.log",
    message:
        "The sequence index is built"


rule data:
    input:
        all_of("download", "preprocess", "sequences"),
    log:
        f"{LOGS}/data.log",
    message:
        "All data are ready for training"
