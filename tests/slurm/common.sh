# What the tests on a real Slurm share; sourced by run.sh and nodes.sh.
#
#   begin                 refuse what cannot be; work: a folder that goes at the end, with the cluster
#                         (KEEP=1 keeps the folder)
#   disturb COMMAND…      start what goes on beside the workflow; ends with the script
#   disturbed             await its success: what has not happened by then will not happen
#   copy FOLDER SCALE…    a copy of the checkout with these scales laid over each other
#   await COMMAND…        until it succeeds, for at most 5 minutes
#   slurm_jobs FORMAT     what became of all Slurm jobs: into $work/jobs, and shown
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(git -C "$here" rev-parse --show-toplevel)
. "$here/cluster.sh"
# Jobs take the code of their own copy.
export PYTHONPATH=src
disturber=

begin() {
    local missing
    missing=$(cluster_missing)
    if [ -n "$missing" ]; then
        echo "error: this test needs a Slurm; missing are:" >&2
        sed 's/^/  /' <<<"$missing" >&2
        echo "on Debian: apt-get install munge slurmctld slurmd slurm-client" >&2
        exit 2
    fi
    work=$(mktemp -d)
    # munged wants its socket's folder to be passable for everybody; what is secret lies deeper.
    chmod 711 "$work"
    trap _end EXIT
    trap 'exit 130' INT TERM
}

_end() {
    local status=$?
    trap - EXIT INT TERM
    [ -z "$disturber" ] || kill "$disturber" 2>/dev/null || true
    cluster_stop
    if [ "$status" -ne 0 ]; then
        echo "error: failed with status $status; the end of the logs:" >&2
        tail -n 40 "$work"/*.log >&2 2>/dev/null || true
    fi
    [ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"
    exit "$status"
}

disturb() {
    "$@" &
    disturber=$!
}

disturbed() {
    await _disturber_ended
    wait "$disturber"
    disturber=
}

_disturber_ended() { ! kill -0 "$disturber" 2>/dev/null; }

copy() {
    local scale
    git clone --quiet "$root" "$1"
    # Uncommitted changes are tried as well.
    git -C "$root" ls-files --modified --others --exclude-standard -z \
        | (cd "$root" && while IFS= read -r -d '' f; do [ -e "$f" ] && cp --parents "$f" "$1"; done; true)
    for scale in "${@:2}"; do
        (cd "$1" && python -m voxseq config use "$scale" >/dev/null)
    done
}

await() {
    local end=$((SECONDS + 300))
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "error: not within 5 minutes: $*" >&2; return 1; }
        sleep 1
    done
}

slurm_jobs() {
    squeue --noheader --states=all --Format="$1" | sort -n | tee "$work/jobs"
}
