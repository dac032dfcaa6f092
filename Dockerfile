# voxseq in a container: the wheel and its libraries, and a workspace in /work.
#
#   docker build --tag voxseq:0.2.0 .                                            CPU
#   docker build --tag voxseq:0.2.0-cuda --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 \
#       --build-arg TORCH= .                                                     GPUs
#   docker run --rm -it --shm-size=2g -v "$PWD:/work" voxseq:0.2.0 voxseq --help
#
# The base has a package manager apt and Python 3.11 or newer in it. PyTorch's CUDA build brings
# CUDA's libraries itself; of the GPU base only the driver's interface is used.
ARG BASE=python:3.12-slim-trixie

FROM ${BASE} AS build
ARG TORCH=cpu
# Shared with apptainer.def and tests/package/container.sh, which runs it in an empty Debian.
COPY . /source
RUN sh /source/scripts/container.sh build /source /opt/voxseq "${TORCH}"

FROM ${BASE}
COPY --from=build /opt/voxseq /opt/voxseq
COPY scripts/container.sh /tmp/container.sh
RUN sh /tmp/container.sh run /opt/voxseq && rm /tmp/container.sh
ENV PATH=/opt/voxseq/bin:$PATH \
    OMP_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=voxseq
# Any user may run it, also one without a name: docker run --user "$(id -u):$(id -g)" …
WORKDIR /work
CMD ["voxseq", "--help"]
