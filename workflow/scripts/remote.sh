#!/usr/bin/env bash
# A place where DVC keeps the artefacts of this folder, for other clones and machines:
# remote.sh URL [KEY=VALUE…]
#
# URL is a folder (made if it is missing), s3://bucket/path, or another kind that DVC has a plugin for.
# KEY=VALUE are settings of DVC's remote, such as endpointurl=http://minio:9000 or profile=lab; secrets
# go into .dvc/config.local, which git ignores. Finished stages are recorded, the remote is named, and
# everything is pushed. A second call pushes what is new. See docs/dvc-remote.md.
set -euo pipefail
name=store

fail() {
    printf 'error: %s\n  next: %s\n' "$1" "$2" >&2
    exit 2
}

[ $# -ge 1 ] || fail "no place is named" "bash workflow/scripts/remote.sh /mnt/share/voxseq, or s3://bucket/path"
url=$1
shift
[ -f dvc.yaml ] && [ -d .dvc ] || fail "$PWD is no workspace of voxseq" "cd to the clone, or make a workspace: voxseq new FOLDER"
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || fail "$PWD is not under version control" "git init, and commit the files of the workspace"
case $url in
    s3://*)
        python -c 'import dvc_s3' 2>/dev/null || fail "DVC cannot read S3 here" "pip install 'dvc-s3>=3.2'"
        ;;
    *://*) ;;
    *)
        mkdir -p "$url" 2>/dev/null && [ -w "$url" ] || fail "$url cannot be written" "name another folder, or mount that disk"
        # DVC would take a relative path from .dvc.
        url=$(cd "$url" && pwd)
        ;;
esac

if dvc config --project "remote.$name.url" >/dev/null 2>&1; then
    dvc remote modify "$name" url "$url"
else
    dvc remote add "$name" "$url"
fi
dvc remote default "$name"
for setting in "$@"; do
    case $setting in
        *=*) ;;
        *) fail "$setting is no setting of a remote" "KEY=VALUE, such as endpointurl=http://minio:9000" ;;
    esac
    kept=
    case ${setting%%=*} in
        *secret* | *password* | *token* | *key*) kept=--local ;;
    esac
    dvc remote modify ${kept:+"$kept"} "$name" "${setting%%=*}" "${setting#*=}"
done

python -m voxseq record
dvc push
git add .dvc/config
[ ! -f dvc.lock ] || git add dvc.lock
echo "$url has everything that DVC has recorded here"
echo "next: git commit, git push; elsewhere: git clone, make environment, dvc pull --allow-missing"
