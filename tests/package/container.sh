#!/usr/bin/env bash
# The steps of Dockerfile and apptainer.def, without a builder of images: as root in an empty Debian.
#   1. debootstrap makes a root with Debian's essential packages in a temporary folder.
#   2. scripts/container.sh builds there what the first stage of the Dockerfile builds, from the files
#      that .dockerignore lets through, and prepares the second stage.
#   3. In that root a user without rights makes a workspace, and a study of images to a mask.
# What is not tried: syntax that only Docker and Apptainer read, other base images, GPUs.
# PyTorch is the build that pip's own configuration gives (TORCH=cpu: that of download.pytorch.org).
# Takes minutes and gigabytes. KEEP=1 keeps the folder; SUITE, MIRROR: Debian's; DEBIAN: a folder with
# an empty Debian that was made before; LENT: folders of this machine that pip's configuration names.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
suite=${SUITE:-bookworm}
for program in debootstrap chroot; do
    command -v "$program" >/dev/null || { echo "error: $program is missing: apt-get install $program"; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "error: debootstrap needs root"; exit 2; }
work=$(mktemp -d)
box=$work/root
mounts=()
clean() {
    for place in "${mounts[@]}"; do umount "$place" || true; done
    [ -n "${KEEP:-}" ] || rm -rf --one-file-system "$work"
}
trap clean EXIT
[ -z "${KEEP:-}" ] || echo "== the folder $work is kept"

step() { echo "== $1 (after ${SECONDS} s)"; }
# Of this machine's environment only what is said to pip.
inside() {
    chroot "$box" /usr/bin/env -i HOME=/tmp PATH=/opt/voxseq/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        PIP_FIND_LINKS="${PIP_FIND_LINKS:-}" ${certificates:+PIP_CERT="$certificates"} "$@"
}
# A folder of this machine that pip is told of, read-only.
lend() {
    [ -d "$1" ] || return 0
    mkdir -p "$box$1"
    mount --bind --options ro "$1" "$box$1"
    mounts=("$box$1" "${mounts[@]}")
}

step "an empty Debian ($suite)"
if [ -n "${DEBIAN:-}" ]; then
    cp --archive "$DEBIAN" "$box"
else
    debootstrap --variant=minbase "$suite" "$box" ${MIRROR:+"$MIRROR"} >"$work/debootstrap.log" 2>&1 ||
        { tail -n 20 "$work/debootstrap.log"; exit 1; }
fi
cp /etc/resolv.conf "$box/etc"
mkdir -p "$box/dev/shm"
mount --bind /dev "$box/dev" && mounts=("$box/dev" "${mounts[@]}")
mount -t proc proc "$box/proc" && mounts=("$box/proc" "${mounts[@]}")
# Certificates, mirrors and wheels of this machine.
certificates=
if [ -f "${PIP_CERT:-}" ]; then
    certificates=/etc/ssl/lent.crt
    mkdir -p "$box/etc/ssl"
    cp "$PIP_CERT" "$box$certificates"
fi
for place in /etc/pip.conf /etc/xdg/pip; do
    [ ! -e "$place" ] || { mkdir -p "$box$(dirname "$place")"; cp -r "$place" "$box$place"; }
done
# Its bundle of certificates is another one in the root.
[ -z "$certificates" ] || find "$box/etc/pip.conf" "$box/etc/xdg/pip" -name pip.conf \
    -exec sed -i "s|^cert = .*|cert = $certificates|" {} + 2>/dev/null || true
for place in ${LENT:-}; do lend "$place"; done

step "the files that .dockerignore lets through"
mkdir "$box/source"
sed -n 's/^!//p' "$root/.dockerignore" |
    tar --create --directory "$root" --exclude __pycache__ --files-from - |
    tar --extract --directory "$box/source" --no-same-owner
(cd "$box/source" && find . -type f | wc -l)

step "build"
inside sh /source/scripts/container.sh build /source /opt/voxseq "${TORCH:-}"
rm -rf "$box/source/src"
step "run"
inside sh /source/scripts/container.sh run /opt/voxseq
rm -rf "$box/source"
du -sh "$box/opt/voxseq" | cut -f 1

step "a user in that root"
mkdir -p "$box/helpers/tests"
cp -r "$root/tests/helpers" "$box/helpers/tests"
inside PYTHONPATH=/helpers python -c \
    "from pathlib import Path; from tests.helpers import own_images; own_images.decathlon(Path('/work/Task99_Liver'))"
rm -rf "$box/helpers"
chmod -R a+rwX "$box/work"
chroot --userspec 1234:1234 "$box" /usr/bin/env -i HOME=/tmp USER=voxseq OMP_NUM_THREADS=1 \
    PATH=/opt/voxseq/bin:/usr/bin:/bin VOXSEQ_PRESET=tiny VOXSEQ_STEPS=4 VOXSEQ_SEEDS=1 bash -euo pipefail -c '
        cd /work
        voxseq new mine | sed -n 1p
        cd mine
        voxseq init livers --images /work/Task99_Liver | tail -n 1
        voxseq run livers tables
        voxseq predict artifacts/livers/finetune/livers/ours/s0 /work/Task99_Liver/imagesTs -o masks
    '
test -s "$box/work/mine/masks/liver8.nii.gz"
step "the steps of the containers work"
