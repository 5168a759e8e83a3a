#!/bin/bash
# run.sh [PART...]: runs the tests; without PART all of them.
#
#   lint   tools/lint.sh
#   unit   go test of all packages but those below test/
#   e2e    test/script: the programs, by both command lines; test/cores: what is one for the machine;
#          test/apifuzz: random requests
#   conform  test/conform: the OCI's validation programs, against porthole-oci
#   hostile  test/hostile: attacks on the engine
#   crash  test/crash: kills the daemon 200 times under a load, or PORTHOLE_TEST_CRASH times, and at each point of a
#          durable write; e2e does a few of both; test/exhaust: kills shims,
#          fills the disk, takes inodes, descriptors and processes
#   uml    test/uml: the core of it on another kernel, with cgroup v2
#   stock  test/stock: the core of it on Debian's kernel, with AppArmor; no part of all tests
#   load   test/load: many containers, clients and works at once
#
# Asks for root by sudo. Where uml is one of several parts it runs beside the
# others until its turn comes: its machine keeps one processor busy, and they wait
# most of the time. What is measured by load is measured alone.
# Ends with a list of what was skipped, and why.
set -euo pipefail
cd "$(dirname "$0")/.."
# What runs may catch these and end by itself; we would go on with the next.
trap 'exit 130' INT
trap 'exit 143' TERM

# Lints want no root, and no files of root in the user's caches.
parts=("$@")
if [[ ${#parts[@]} -eq 0 ]]; then
    parts=(lint unit e2e conform hostile uml load)
fi
if [[ -z ${PORTHOLE_TEST_AS_ROOT-} ]]; then
    bash tools/check-machine.sh go kernel
    bash tools/as-root.sh bash tools/install-test-tools.sh
    for i in "${!parts[@]}"; do
        if [[ ${parts[i]} == lint ]]; then
            echo "== lint"
            bash tools/lint.sh || export PORTHOLE_TEST_FAILED=lint
            unset "parts[i]"
        fi
    done
    if [[ ${#parts[@]} -eq 0 ]]; then
        [[ -z ${PORTHOLE_TEST_FAILED-} ]]
        exit
    fi
    export PORTHOLE_TEST_AS_ROOT=1
    exec bash tools/as-root.sh bash "$0" "${parts[@]}"
fi

images=${PORTHOLE_TEST_IMAGES:-/var/cache/porthole-test-images/images}
scratch=$(mktemp -d)
skips=$scratch/skips
: >"$skips"
trap tidy EXIT
export PORTHOLE_TEST_SKIPS=$skips PORTHOLE_TEST_STRICT=1 PORTHOLE_TEST_IMAGES=$images
export PORTHOLE_TEST_BIN=$PWD/bin CGO_ENABLED=0

failed=()
if [[ -n ${PORTHOLE_TEST_FAILED-} ]]; then
    failed+=("$PORTHOLE_TEST_FAILED")
fi
part() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name"
    if ! "$@"; then
        failed+=("$name")
    fi
    echo "== $name took $((SECONDS - began)) s"
}

# begin PART [NICE]: starts it beside what follows. What it says is kept for finish.
declare -A job=()
begin() {
    local name=$1 nicer=${2-0}
    # A process group of its own, which can be ended as a whole.
    set -m
    {
        renice -n "$(($(nice) + nicer))" "$BASHPID" >/dev/null
        "$name"
    } >"$scratch/$name" 2>&1 </dev/null &
    set +m
    job[$name]=$!
    echo "== $name goes on beside the others"
}

# finish PART: waits for what was begun, and shows what it said.
finish() {
    local name=$1 status=0
    wait "${job[$name]}" || status=$?
    unset "job[$name]"
    cat "$scratch/$name"
    return "$status"
}

# Whatever was begun ends with the script, clears away what it has made, and has
# the end of what it said shown.
tidy() {
    local name tries
    for name in "${!job[@]}"; do
        kill -- "-${job[$name]}" 2>/dev/null || true
    done
    for name in "${!job[@]}"; do
        # Its first process may end before those that clear away.
        for ((tries = 0; tries < 300; tries++)); do
            kill -0 -- "-${job[$name]}" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-${job[$name]}" 2>/dev/null || true
        echo "== $name was ended; the last that it said:"
        tail -n 20 "$scratch/$name"
    done
    rm -rf "$scratch"
}

# Packages are tested one after the other: they count mounts and processes.
unit() {
    go list ./... | grep -v '/porthole/test/' | xargs go test -count 1 -p 1 -timeout 15m
}

# Half of the work of test/script: scripts that both command lines run, and of real images.
clients='^TestScript$/^(porthole|docker|real)$'
clients() { script run "$clients"; }

# script FLAG PATTERN: tests of test/script that the flag and its pattern leave.
# Scripts end what they have begun by SIGINT, which is ignored below a shell
# that was itself begun with &; go test would see to that.
script() {
    (cd test/script && env --default-signal=INT,QUIT "$scratch/script.test" -test.timeout=40m "-test.$1=$2")
}

e2e() {
    test/images/make-images.sh -u "$images"
    # The tests have no network to fetch modules by.
    PORTHOLE_TEST_COMPOSE=$(sh test/compose/build.sh)
    PORTHOLE_TEST_BUILDX=$(sh test/buildx/build.sh)
    PORTHOLE_TEST_DELVE=$(sh test/delve/build.sh)
    export PORTHOLE_TEST_COMPOSE PORTHOLE_TEST_BUILDX PORTHOLE_TEST_DELVE
    local status=0
    go test -c -o "$scratch/script.test" ./test/script
    begin clients
    echo "== the other half of test/script"
    script skip "$clients" || status=$?
    finish clients || status=$?
    go test -count 1 -timeout 5m ./test/crash || status=$?
    go test -v -count 1 -timeout 10m ./test/exhaust || status=$?
    go test -count 1 -timeout 5m ./test/cores || status=$?
    go test -count 1 -timeout 5m ./test/apifuzz || status=$?
    return "$status"
}

crash() {
    test/images/make-images.sh -u "$images"
    local status=0
    go test -v -count 1 -timeout 10m ./test/exhaust || status=$?
    PORTHOLE_TEST_CRASH=${PORTHOLE_TEST_CRASH:-200} PORTHOLE_TEST_POINTS=${PORTHOLE_TEST_POINTS:-1000} \
        go test -v -count 1 -timeout 90m ./test/crash || status=$?
    return "$status"
}

conform() {
    PORTHOLE_TEST_OCI=$(sh test/oci/build.sh) go test -count 1 -timeout 5m ./test/conform
}

hostile() {
    test/images/make-images.sh -u "$images"
    PORTHOLE_TEST_BUILDX=$(sh test/buildx/build.sh)
    export PORTHOLE_TEST_BUILDX
    local attacks status=0
    attacks=$(mktemp)
    PORTHOLE_TEST_ATTACKS=$attacks go test -count 1 -timeout 10m ./test/hostile || status=$?
    sort "$attacks"
    echo "== attacks tried: $(grep -vc '^not tried' "$attacks"), stopped: $(grep -c '^stopped' "$attacks")"
    rm -f "$attacks"
    return "$status"
}

load() {
    test/images/make-images.sh -u "$images"
    local figures status=0
    figures=$(mktemp)
    PORTHOLE_TEST_FIGURES=$figures go test -count 1 -timeout 60m ./test/load || status=$?
    cat "$figures"
    rm -f "$figures"
    return "$status"
}

uml() {
    test/images/make-images.sh -u "$images"
    go test -count 1 -timeout 45m ./test/uml/...
}

stock() {
    test/images/make-images.sh -u "$images"
    # Says which kernel it is, which tests that pass do not.
    bash test/stock/kernel.sh >/dev/null
    go test -count 1 -timeout 100m ./test/stock
}

if [[ ${#parts[@]} -gt 1 && " ${parts[*]} " == *" uml "* ]]; then
    test/images/make-images.sh -u "$images"
    begin uml 5
    uml() { finish uml; }
fi
for name in "${parts[@]}"; do
    part "$name" "$name"
done

echo "== skipped: $(wc -l <"$skips")"
sort "$skips"
if [[ ${#failed[@]} -gt 0 ]]; then
    echo "== FAILED: ${failed[*]}"
    exit 1
fi
echo "== passed: ${parts[*]}"
