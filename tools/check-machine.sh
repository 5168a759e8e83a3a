#!/bin/bash
# check-machine.sh WHAT...: says in one line what this machine lacks.
#   go      a Go that can build Porthole
#   kernel  a kernel that can run it
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
    echo "porthole: $*" >&2
    exit 1
}

# older A B: version A is below version B
older() {
    [[ $1 != "$2" && $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

check_go() {
    local want have
    want=$(sed -n 's/^go //p' go.mod)
    command -v go >/dev/null ||
        die "Go $want or newer is needed and there is no go on the path"
    # A newer go fetches the toolchain that go.mod asks for; an old one cannot.
    have=$(go env GOVERSION 2>/dev/null || (cd / && GOTOOLCHAIN=local go env GOVERSION))
    have=${have#go}
    have=${have%% *}
    if older "$have" "$want"; then
        die "Go $want or newer is needed, this is Go $have ($(command -v go))"
    fi
}

check_kernel() {
    local have
    [[ $(uname -s) == Linux ]] || die "Linux is needed, this is $(uname -s)"
    have=$(uname -r | grep -oE '^[0-9]+\.[0-9]+')
    if older "$have" 5.14; then
        die "Linux 5.14 or newer is needed, this is $(uname -r)"
    fi
}

for what in "$@"; do
    "check_$what"
done
