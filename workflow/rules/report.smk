"""Tables, figures and the report."""

from voxseq.report.escape import PHANTOMS

CAPTIONS = Path(workflow.basedir) / "workflow/report"
#: First line of every caption.
DATA = PHANTOMS if CONFIG.data.root is None else ""


use rule get_dataset as make_tables with:
    input:
        [ancient(path) for path in PLAN.needed_markers(only_job("tables"))],
    output:
        markers("tables"),
        *[
            report(
                f"{RESULTS}/tables/table{number}.md",
                caption=CAPTIONS / f"table{number}.rst",
                category="Tables",
            )
            for number in (1, 2, 3, 4, 5)
        ],
        expand(
            f"{RESULTS}/tables/table{{number}}.{{format}}",
            number=[1, 2, 3, 4, 5],
            format=["csv", "tex"],
        ),
        f"{RESULTS}/metrics.json",
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
        [ancient(path) for path in PLAN.needed_markers(only_job("figures"))],
    output:
        markers("figures"),
        *[
            report(
                f"{RESULTS}/figures/figure{number}.png",
                caption=CAPTIONS / f"figure{number}.rst",
                category="Figures",
            )
            for number in (1, 2)
        ],
        *[
            report(
                f"{RESULTS}/figures/{name}.png",
                caption=CAPTIONS / f"{name}.rst",
                category="Figures",
            )
            for name in ("heatmap", "reliability")
        ],
        f"{RESULTS}/report/index.html",
        f"{RESULTS}/report/cases.html",
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
