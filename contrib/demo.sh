#!/bin/bash
# demo.sh: shows what Porthole does: a private daemon, one container of the
# embedded image, the commands that look at it. Cleans up after itself. Run by
# `make demo`, after a build.
# shellcheck disable=SC2016 # the single quotes are for the shell in the container
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
    echo "porthole: $*" >&2
    exit 1
}

# First as whoever calls, then as root, then as process 1 of namespaces of its
# own: neither the host's network nor its processes are touched, and whatever
# happens, everything ends with process 1.
if [[ $EUID -ne 0 ]]; then
    bash tools/check-machine.sh kernel
    exec bash tools/as-root.sh bash contrib/demo.sh
fi
if [[ -z ${PORTHOLE_DEMO-} ]]; then
    bash tools/check-machine.sh kernel
    [[ -x bin/portholed ]] || die "there is no bin/portholed: make build"
    PORTHOLE_DEMO=$(mktemp -d /var/tmp/porthole-demo-XXXXXX)
    export PORTHOLE_DEMO
    status=0
    unshare --net --mount --pid --fork --mount-proc --kill-child bash contrib/demo.sh || status=$?
    # Cgroups are the one thing that does not end with the namespaces.
    for _ in 1 2 3 4 5; do
        find /sys/fs/cgroup -depth -type d -path "*/${PORTHOLE_DEMO##*/}*" -exec rmdir {} + 2>/dev/null || true
        [[ -n $(find /sys/fs/cgroup -maxdepth 3 -type d -name "${PORTHOLE_DEMO##*/}") ]] || break
        sleep 0.2
    done
    rm -rf "$PORTHOLE_DEMO"
    exit "$status"
fi

dir=$PORTHOLE_DEMO
export PATH=$PWD/bin:$PATH PORTHOLE_HOST=unix://$dir/porthole.sock HOME=$dir
unset DOCKER_HOST

portholed --data-root "$dir/data" --exec-root "$dir/exec" --host "$PORTHOLE_HOST" \
    --pidfile "$dir/pid" --cgroup-parent "/${dir##*/}" >"$dir/log" 2>&1 &
daemon=$!
for ((i = 0; ; i++)); do
    if porthole version >/dev/null 2>&1; then
        break
    fi
    if ! kill -0 "$daemon" 2>/dev/null || [[ $i -ge 200 ]]; then
        tail -n 5 "$dir/log" >&2
        die "the daemon did not start"
    fi
    sleep 0.05
done

# Shows a command, as one would type it, and what it prints.
show() {
    local line='' word
    for word in "$@"; do
        if [[ $word == *[^[:alnum:]_./:=-]* ]]; then
            word="'$word'"
        fi
        line+=" $word"
    done
    echo
    printf '\e[1m$%s\e[0m\n' "$line"
    "$@"
}

echo "A private daemon runs, with nothing in it but the image that it brings."
show porthole images
show porthole run -d --name demo porthole/toolbox \
    sh -c 'n=0; while true; do n=$((n+1)); echo "line $n"; sleep 0.2; done'
show porthole ps
show porthole exec demo sh -c 'echo "inside, I am uid $(id -u)"; ls /'
show porthole top demo
sleep 0.5
show porthole logs --tail 3 --timestamps demo
show porthole inspect --format 'pid {{.State.Pid}}, address {{.NetworkSettings.Networks.bridge.IPAddress}}' demo
pid=$(porthole inspect --format '{{.State.Pid}}' demo)
echo
echo "On the host the same process is uid $(awk '/^Uid:/ {print $2}' "/proc/$pid/status"): nobody."
echo
echo "The daemon is killed and started again. The container did not notice:"
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
portholed --data-root "$dir/data" --exec-root "$dir/exec" --host "$PORTHOLE_HOST" \
    --pidfile "$dir/pid" --cgroup-parent "/${dir##*/}" >>"$dir/log" 2>&1 &
daemon=$!
until porthole version >/dev/null 2>&1; do
    kill -0 "$daemon" 2>/dev/null || die "the daemon did not start again: $(tail -n 1 "$dir/log")"
    sleep 0.05
done
show porthole ps
show porthole rm -f demo
kill "$daemon"
wait "$daemon" || true
echo
echo "All gone again. To keep it: sudo make install"
