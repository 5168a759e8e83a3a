#!/bin/bash
# lint.sh: all that can be said about the source without running it.
# shellcheck disable=SC2317 # functions are called by name
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0

bad=0
check() {
    local title=$1
    shift
    if ! "$@"; then
        echo "lint: $title: not clean" >&2
        bad=1
    fi
}

# Prints what a tool would change, and fails if that is anything, or the tool fails.
no_diff() {
    local diff status=0
    diff=$("$@") || status=$?
    [[ -z $diff ]] || {
        printf '%s\n' "$diff"
        return 1
    }
    return "$status"
}

gofiles() { git ls-files '*.go'; }

shell_scripts() {
    git ls-files '*.sh' .ci/run
    git grep -lE '^#!/bin/(ba)?sh' -- test/images/rootfs contrib || true
}

unformatted() { gofiles | xargs go tool -modfile=tools/go.mod gofumpt -l -modpath github.com/portholehq/porthole -lang go1.26; }

shellcheck_all() { shell_scripts | sort -u | xargs shellcheck; }

check "go vet" go vet ./...
check "gofumpt" no_diff unformatted
check "go fix" no_diff go fix -diff ./...
check "golangci-lint" go tool -modfile=tools/go.mod golangci-lint run --allow-parallel-runners --timeout 15m ./...
if command -v shellcheck >/dev/null; then
    check "shellcheck" shellcheck_all
else
    echo "lint: shellcheck is not installed (make test-tools)" >&2
    bad=1
fi
exit "$bad"
