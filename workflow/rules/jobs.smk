"""The rules of single jobs: each does one job of the plan with `voxseq job`."""

from voxseq.config.data import PHANTOMS

PRETRAININGS, FINETUNINGS = r"pretrain\.[A-Za-z0-9_.]+", r"finetune\.[A-Za-z0-9_.]+"
ANY = r"[A-Za-z0-9_.]+"
#: What the captions of Snakemake's own report depend on.
STUDY = PLAN.runs["tables/all"].config
#: Rule → its stage, the names of its jobs, the part of `execution` with its resources, a message.
JOBS = {
    "get_dataset": ("download", ANY, "download", "Getting and checking {}"),
    "prepare_volumes": ("preprocess", ANY, "preprocess", "Preparing the volumes of {}"),
    "index_sequences": ("sequences", ANY, "sequences", "Building the sequence index"),
    "pretrain_method": ("pretrain", ANY, "pretrain", "Pre-training {}"),
    "pretrain_variant": ("ablation", PRETRAININGS, "pretrain", "Ablation: pre-training {}"),
    "pretrain_beyond": ("beyond", PRETRAININGS, "pretrain", "Beyond the paper: pre-training {}"),
    "finetune_task": ("finetune", ANY, "finetune", "Fine-tuning {}"),
    "finetune_variant": ("ablation", FINETUNINGS, "finetune", "Ablation: fine-tuning {}"),
    "finetune_fewer_labels": ("label_ratio", ANY, "finetune", "Fewer labels: fine-tuning {}"),
    "finetune_beyond": ("beyond", FINETUNINGS, "finetune", "Beyond the paper: {}"),
    "gather_scores": ("scores", ANY, "report", "Gathering the scores of seed {}"),
    # Reports have one job each, whose marker and published files have no wildcards.
    "make_tables": ("tables", None, "report", "Making the tables"),
    "make_figures": ("figures", None, "report", "Drawing the figures"),
}

#: Stage → its turn among jobs that are ready, 0 if it is not here. What most others wait for comes
#: first and what takes longest before what is short, so that no core is idle at the end.
PRIORITIES = {"download": 2, "preprocess": 2, "sequences": 2, "pretrain": 2, "finetune": 1}


for _rule, (_stage, _jobs, _kind, _said) in JOBS.items():
    _asked = getattr(CONFIG.execution, _kind)
    _job = None if _jobs else PLAN.of_stage(_stage)[0]
    _name = f"{_stage}/{'{job}-{fingerprint}' if _jobs else f'{_job.name}-{_job.fingerprint}'}"

    rule:
        name:
            _rule
        input:
            needs_of(_stage, _asked.gpu) if _jobs else needs_of_report(_stage),
        output:
            f"{ARTEFACTS}/{_stage}/jobs/{{job}}-{{fingerprint}}.json" if _jobs else publications(_stage),
        log:
            f"{LOGS}/{_name}.log",
        benchmark:
            f"{BENCHMARKS}/{_name}.tsv"
        params:
            stage=_stage,
            job="{job}" if _jobs else _job.name,
            fingerprint="{fingerprint}" if _jobs else _job.fingerprint,
            # First line of every caption in Snakemake's own report.
            data=PHANTOMS if STUDY.phantoms else "",
            # Whether captions name the paper, its tables and its values.
            papers=STUDY.is_papers,
            launcher=launcher_of(_asked) if _kind == "pretrain" else "",
        wildcard_constraints:
            job=_jobs or ANY,
            fingerprint=r"[0-9a-f]{16}",
        priority: PRIORITIES.get(_stage, 0)
        threads: _asked.on_a_node["threads"]
        resources:
            mem_mb=memory_of(_asked),
            runtime=_asked.runtime,
            **_asked.placement,
        conda:
            "../envs/voxseq.yaml"
        message:
            _said.replace("{}", "{wildcards.job}")
        shell:
            command()


rule verify_volumes:
    """Hashes what changed since it was last hashed, so that no job does it while it holds a GPU."""
    input:
        ancient(f"{ARTEFACTS}/{VERIFIED}/jobs/{{job}}-{{fingerprint}}.json"),
    output:
        # Gone when the jobs that wait for it are done: it says nothing about a later call.
        temp(touch(verification("{job}", "{fingerprint}"))),
    log:
        f"{LOGS}/verify/{{job}}-{{fingerprint}}.log",
    params:
        stage=VERIFIED,
        job="{job}",
        fingerprint="{fingerprint}",
        launcher="",
    wildcard_constraints:
        job=ANY,
        fingerprint=r"[0-9a-f]{16}",
    threads: CONFIG.execution.preprocess.on_a_node["threads"]
    # What is damaged once is not sound at the next attempt.
    retries: 0
    resources:
        mem_mb=memory_of(CONFIG.execution.preprocess),
        runtime=CONFIG.execution.preprocess.runtime,
        **CONFIG.execution.preprocess.placement,
    conda:
        "../envs/voxseq.yaml"
    message:
        "Comparing the volumes of {wildcards.job} with their checksums"
    shell:
        command("--verify")
