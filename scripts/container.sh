#!/bin/sh
# The steps of Dockerfile and apptainer.def, which run in their base image as root:
#   container.sh build SOURCE TARGET [cpu]   tools, the wheel of SOURCE, and a new environment TARGET
#   container.sh run TARGET                  what TARGET needs of the system, and what jobs call
# pip's own configuration is honoured: mount or copy a pip.conf for a mirror or a folder of wheels.
set -eu

install() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
    rm -rf /var/lib/apt/lists/*
}

# A base with a Python of its own, such as python:3.12-slim, needs none of the system.
python_packages() {
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        echo python3 python3-venv
}

case $1 in
build)
    source=$2 target=$3 torch=${4:-}
    # shellcheck disable=SC2046
    install ca-certificates $(python_packages)
    python3 "$source/scripts/environment.py" --check
    python3 -m venv "$target"
    options=
    [ "$torch" != cpu ] || options='--extra-index-url https://download.pytorch.org/whl/cpu'
    pip="$target/bin/python -m pip --quiet --disable-pip-version-check --no-cache-dir"
    # An old one takes minutes to look at the index.
    $pip install --upgrade pip || true
    # shellcheck disable=SC2086
    $pip wheel --no-deps --wheel-dir /tmp/wheel "$source"
    # The versions of the lock, without its tools for developers.
    # shellcheck disable=SC2086
    $pip install --no-compile $options --constraint "$source/requirements.lock" /tmp/wheel/voxseq-*.whl
    # pip would compile on one core. Templates among the libraries are no modules, and fail.
    "$target/bin/python" -m compileall -qq -j 0 "$target/lib" || true
    rm -rf /tmp/wheel
    ;;
run)
    target=$2
    # Jobs are shell commands; git is what DVC versions results with.
    # shellcheck disable=SC2046
    install bash ca-certificates git $(python_packages)
    "$target/bin/voxseq" --version
    mkdir -p /work
    chmod 1777 /work
    ;;
*)
    echo "usage: container.sh build SOURCE TARGET [cpu] | run TARGET" >&2
    exit 2
    ;;
esac
