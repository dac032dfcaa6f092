"""Tables, figures and the report."""

from voxseq.report.escape import PHANTOMS

#: First line of every caption.
DATA = PHANTOMS if CONFIG.data.root is None else ""


use rule get_dataset as make_tables with:
    input:
        needs_of_report("tables"),
    output:
        markers("tables"),
        publications("tables"),
        touch(OUTDATED["tables"]),
    log:
        f"{LOGS}/tables/all.log",
    benchmark:
        f"{BENCHMARKS}/tables/all.tsv"
    params:
        stage="tables",
        job=only_job("tables").name,
        fingerprint=only_job("tables").fingerprint,
        data=DATA,
    threads: resources_of("report").threads
    resources:
        mem_mb=memory_of("report"),
        runtime=resources_of("report").runtime,
        gpu=resources_of("report").gpu,
    message:
        "Making the tables"


use rule make_tables as make_figures with:
    input:
        needs_of_report("figures"),
    output:
        markers("figures"),
        publications("figures"),
        touch(OUTDATED["figures"]),
    log:
        f"{LOGS}/figures/all.log",
    benchmark:
        f"{BENCHMARKS}/figures/all.tsv"
    params:
        stage="figures",
        job=only_job("figures").name,
        fingerprint=only_job("figures").fingerprint,
        data=DATA,
    message:
        "Drawing the figures"


rule tables:
    input:
        all_of("tables"),
    log:
        f"{LOGS}/tables.log",
    message:
        "The tables are in {RESULTS}/tables"


rule figures:
    input:
        all_of("figures"),
    log:
        f"{LOGS}/figures.log",
    message:
        "The figures are in {RESULTS}/figures"
