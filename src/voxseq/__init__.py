"""voxseq: autoregressive sequence modelling for 3D medical images, as one tracked experiment."""

__version__ = "0.1.0"
