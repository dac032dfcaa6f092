# Hosts inside this machine, for tests: each has a name, an address and a network of its own, and
# the files of all are the same. Sourced by nodes.sh, which begins with `in_own_network "$@"`.
#
#   in_own_network ARGUMENT…  start this script again in namespaces of its own, once; everything that it
#                             leaves running ends with it
#   hosts_start FOLDER HOST…  make the hosts; the script itself is on the host `login`
#   host_address HOST         its address
#   on_host HOST COMMAND…     run a command there

in_own_network() {
    [ "${VOXSEQ_HOSTS:-}" = 1 ] && return
    local words=(--net --uts --mount --pid --fork --kill-child --mount-proc)
    # Not in a namespace of users: there munged takes the folders above its own for a stranger's.
    if ! unshare "${words[@]}" ip link add type veth 2>/dev/null; then
        echo "error: this test makes hosts inside this machine, and may not" >&2
        echo "  next: run it as root, with unshare and ip (Debian packages util-linux, iproute2)" >&2
        exit 2
    fi
    VOXSEQ_HOSTS=1 exec unshare "${words[@]}" bash "$0" "$@"
}

# Nothing outside the namespace has these addresses.
_NETWORK=10.0.0
declare -A _NUMBERS=() _HOLDERS=()

host_address() { echo "$_NETWORK.${_NUMBERS[$1]}"; }

on_host() { nsenter --net --uts --target "${_HOLDERS[$1]}" -- "${@:2}"; }

hosts_start() {
    local folder=$1 host number=1
    shift
    _NUMBERS[login]=$number
    for host; do _NUMBERS[$host]=$((number += 1)); done
    {
        echo "127.0.0.1 localhost"
        for host in login "$@"; do echo "$(host_address "$host") $host"; done
    } >"$folder/hosts"
    mount --bind "$folder/hosts" /etc/hosts
    hostname login
    ip link set lo up
    ip link add bridge0 type bridge
    ip address add "$(host_address login)/24" dev bridge0
    ip link set bridge0 up
    for host; do _host_start "$host"; done
}

_host_start() {
    local name=$1 own
    own=$(readlink /proc/self/ns/net)
    unshare --net --uts sleep infinity &
    _HOLDERS[$name]=$!
    until [ "$(readlink "/proc/$!/ns/net")" != "$own" ]; do sleep 0.1; done
    ip link add "to-$name" type veth peer name eth0 netns "$!"
    ip link set "to-$name" master bridge0 up
    on_host "$name" hostname "$name"
    on_host "$name" ip link set lo up
    on_host "$name" ip address add "$(host_address "$name")/24" dev eth0
    on_host "$name" ip link set eth0 up
}
