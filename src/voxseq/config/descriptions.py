"""What keys mean, where the field itself does not say so: ``Model.field`` → description.

A test fails when a key has neither, or when an entry here has no key.
"""

from __future__ import annotations

from collections.abc import Mapping

DESCRIPTIONS: Mapping[str, str] = {
    "Config.scale": "name of this size of the study; artefacts lie in artifacts/SCALE, logs in "
    "logs/SCALE",
    "Config.results": "folder of tables, figures and the report; each scale needs its own",
    "Config.data": "where volumes come from",
    "Config.store": "layout of the volume store",
    "Config.sequences": "patch sequences for pre-training",
    "Config.encoder": "geometry of the encoder",
    "Config.pretrain": "pre-training of every method",
    "Config.finetune": "fine-tuning of every method on every task",
    "Config.ablation": "Table 4",
    "Config.label_ratio": "Table 3",
    "Config.beyond": "what the paper does not ask: Table 5",
    "Config.report": "tables and figures",
    "Config.execution": "resources of jobs; no part of any fingerprint",
    "DataConfig.root": "folder of the real data sets; null: phantoms are generated",
    "DataConfig.release": "name of the state of the files; change it when they change, and all "
    "runs that read them are done again",
    "DataConfig.phantoms": "phantoms; read only without a root",
    "DataConfig.split_seed": "seed of the random splits by subject",
    "DataConfig.split_ratio": "training, validation and test shares of tasks without published "
    "lists (paper: 7:1:2); they sum to 1",
    "PhantomConfig.seed": "seed of all phantoms",
    "PhantomConfig.volume_shape": "voxels of a whole phantom",
    "PhantomConfig.contrast_subjects": "subjects with four aligned MRI contrasts",
    "PhantomConfig.lesions_per_category": "lesions of each of the eight types",
    "PhantomConfig.classification_cases": "training, validation and test cases of each "
    "classification task",
    "StoreConfig.chunk_shape": "voxels that are compressed, and read, together",
    "StoreConfig.codec": "lz4hc: fastest to read; lz4: as fast to read, faster to write, larger "
    "files; zstd: smallest files, twice as slow to read",
    "StoreConfig.compression_level": "0: none, 9: smallest files",
    "SequencesConfig.length": "patches of a sequence (paper: 4)",
    "SequencesConfig.percentiles": "of each crop, mapped to 0 and 1",
    "SequencesConfig.sources": "data sets and the kind of sequence that each gives",
    "SequencesConfig.spatial": "sequences along space",
    "SequencesConfig.contrast": "sequences along MRI contrast",
    "SequencesConfig.semantic": "sequences of lesions of one category",
    "SequencesConfig.seed": "seed of the places of crops and of the draws of lesions",
    "SourceConfig.dataset": "a data set of the catalogue, see docs/datasets.md",
    "SourceConfig.kind": "kind of sequence that is made of it",
    "SpatialConfig.crops_per_volume": "two thirds of it for a volume thinner than the crop "
    "(published)",
    "SpatialConfig.weight": "share of these sequences in a batch, relative to the other kinds",
    "ContrastConfig.crops_per_subject": "places of each subject",
    "ContrastConfig.crop_shape": "source voxels of a crop, the same in every contrast",
    "ContrastConfig.contrasts": "in the order of the sequence; as many as its length",
    "ContrastConfig.weight": "share of these sequences in a batch, relative to the other kinds",
    "SemanticConfig.draws_per_category": "sequences of each lesion category (published: 20000)",
    "SemanticConfig.weight": "share of these sequences in a batch, relative to the other kinds",
    "EncoderConfig.width": "channels C; divisible by heads and by 6",
    "EncoderConfig.depth": "transformer blocks",
    "EncoderConfig.heads": "attention heads",
    "EncoderConfig.mlp_width": "hidden channels of a block's two-layer perceptron",
    "EncoderConfig.patch_size": "voxels of a token; segmentation needs a cube whose side is a "
    "power of two",
    "PretrainConfig.steps": "optimiser steps of every method",
    "PretrainConfig.batch_size": "sequences, or single images, of a step",
    "PretrainConfig.seed": "seed of initial weights, draws and augmentation",
    "PretrainConfig.precision": "arithmetic of forward and backward passes",
    "PretrainConfig.validate_every": "steps between validations; which weights are kept is the "
    "method's: the last ones, or those of the smallest validation loss",
    "PretrainConfig.validation_sequences": "held-out sequences that are scored, at most",
    "PretrainConfig.log_every": "steps between entries of metrics.csv",
    "PretrainConfig.checkpoint_every": "steps between checkpoints",
    "PretrainConfig.methods": "methods to pre-train, each with its own settings, below",
    "FinetuneConfig.seeds": "every cell of the tables is trained once with each",
    "FinetuneConfig.precision": "arithmetic of forward and backward passes",
    "FinetuneConfig.log_every": "steps between entries of metrics.csv",
    "FinetuneConfig.checkpoint_every": "steps between checkpoints",
    "FinetuneConfig.tasks": "the downstream tasks",
    "ClassificationTask.type": "kind of task",
    "ClassificationTask.labels": "names of the classes 0 and 1",
    "ClassificationTask.batch_size": "images of a step",
    "ClassificationTask.augmentation": "chain of random transforms: that of LA and RICORD, flips "
    "only, or none",
    "ClassificationTask.class_balanced_loss": "mean cross-entropy of each class in the batch, "
    "summed and divided by 2 (RICORD, published code)",
    "ClassificationTask.select_by": "validation score by which the weights are chosen",
    "ClassificationTask.steps": "optimiser steps",
    "ClassificationTask.validate_every": "steps between validations",
    "ClassificationTask.title": "name in the tables",
    "ClassificationTask.dataset": "a data set of the catalogue, see docs/datasets.md",
    "ClassificationTask.data": "preparation of the volumes; needs resize",
    "TaskDataConfig.normalise": "window: map the window to 0..1; zscore: whole-volume mean 0 and "
    "sd 1; none: values as they are",
    "TaskDataConfig.foreground_crop": "cut to the box of voxels above the window's lower end or, "
    "without window, above the minimum",
    "TaskDataConfig.crop_margin": "voxels kept around that box",
    "TaskDataConfig.merge_labels": "label value: value it becomes, before training and scoring",
    "OptimiserConfig.lr": "learning rate at the end of warm-up",
    "OptimiserConfig.betas": "decay rates of AdamW's two averages",
    "OptimiserConfig.weight_decay": "decoupled weight decay",
    "OptimiserConfig.layer_decay": "factor of the learning rate from each block to the one below; "
    "fine-tuning only; null: none",
    "OptimiserConfig.warmup_steps": "steps of linear rise from 0",
    "OptimiserConfig.schedule": "after warm-up: half cosine to 0, (1 - t/T)^0.9, constant, or a "
    "tenth from 50 % and again from 75 % of the steps",
    "OptimiserConfig.clip_norm": "largest norm of the whole gradient; null: no clipping",
    "SegmentationTask.type": "kind of task",
    "SegmentationTask.roi": "voxels of a training crop and of the sliding window; multiples of the "
    "token",
    "SegmentationTask.crops_per_volume": "crops of each volume of a batch",
    "SegmentationTask.volumes_per_batch": "volumes of a step",
    "SegmentationTask.crop_sampling": "class_balanced: the centre is a voxel of a class drawn with "
    "equal chances; uniform: anywhere",
    "SegmentationTask.augmentation": "chain of random transforms: that of the MSD tasks, that of "
    "LA, or none",
    "SegmentationTask.decoder_features": "channels of the decoder at full resolution",
    "SegmentationTask.overlap": "share of a sliding window that its neighbour covers too",
    "SegmentationTask.steps": "optimiser steps",
    "SegmentationTask.validate_every": "steps between validations; the weights with the best mean "
    "Dice are kept",
    "SegmentationTask.title": "name in the tables",
    "SegmentationTask.dataset": "a data set of the catalogue, see docs/datasets.md",
    "SegmentationTask.data": "preparation of the volumes",
    "AblationConfig.tasks": "tasks that every variant is fine-tuned on; none: no ablation",
    "AblationConfig.variants": "name of the row: what differs from the full method",
    "AblationVariant.title": "name in the table",
    "AblationVariant.attention": "as in the settings of ours",
    "AblationVariant.token_order": "as in the settings of ours",
    "AblationVariant.without": "kind of sequence that is left out",
    "AblationVariant.stride": "in place of sequences.spatial.stride",
    "LabelRatioConfig.ratios": "shares of the training cases; all of them always belong to the "
    "table",
    "LabelRatioConfig.tasks": "tasks of the table; none: no such runs",
    "ReportConfig.bootstrap_samples": "resamples behind a confidence interval",
    "ReportConfig.figure_seed": "seed of the choice of examples in figures",
    "ReportConfig.dpi": "resolution of figures",
    "ReportConfig.max_curve_points": "most points of a training curve",
    "ExecutionConfig.download": "getting or generating and checking a data set",
    "ExecutionConfig.preprocess": "preparing the volumes of a data set",
    "ExecutionConfig.sequences": "building the sequence index",
    "ExecutionConfig.pretrain": "one pre-training",
    "ExecutionConfig.finetune": "one job of fine-tunings",
    "ExecutionConfig.report": "tables, and figures",
    "OursSettings.optimiser": "AdamW and its schedule",
}
