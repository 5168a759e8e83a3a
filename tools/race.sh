#!/bin/bash
# race.sh [PACKAGE...]: looks for data races: the tests of the packages, of all if
# none is named, and then the end-to-end scripts against programs that the race
# detector is built into. Ends with 1 if a test fails or a test, the daemon or the
# command line has reported a race. Shims have no environment that could tell them
# where to report, so theirs are found by the tests of their packages alone. Run by
# root; takes hours on two cores.
#   PORTHOLE_TEST_RACE  a pattern for the scripts, as for go test -run; "-" for none
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $EUID -ne 0 ]]; then
    exec bash tools/as-root.sh bash "$0" "$@"
fi
command -v gcc >/dev/null || {
    echo "race: the race detector needs a C compiler: gcc" >&2
    exit 1
}
# The detector is a C++ library.
export CGO_ENABLED=1
scripts=${PORTHOLE_TEST_RACE:-TestScript}
images=${PORTHOLE_TEST_IMAGES:-/var/cache/porthole-test-images/images}
work=$(mktemp -d /var/tmp/porthole-race-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/reports" "$work/bin"
export GORACE="log_path=$work/reports/race halt_on_error=0"
export PORTHOLE_TEST_STRICT=1 PORTHOLE_TEST_IMAGES=$images

status=0
packages=("$@")
if [[ ${#packages[@]} -eq 0 ]]; then
    mapfile -t packages < <(go list ./... | grep -v '/porthole/test/')
fi
for package in "${packages[@]}"; do
    go test -race -count 1 -timeout 60m "$package" || status=1
done

if [[ $scripts != - ]]; then
    make --no-print-directory toolbox
    go build -race -o "$work/bin/" ./cmd/...
    # It is also the init of containers, in which there is no loader.
    go build -race -tags netgo,osusergo -ldflags '-linkmode external -extldflags -static' -o "$work/bin/" ./cmd/porthole-shim
    PORTHOLE_TEST_COMPOSE=$(CGO_ENABLED=0 sh test/compose/build.sh)
    PORTHOLE_TEST_BUILDX=$(CGO_ENABLED=0 sh test/buildx/build.sh)
    PORTHOLE_TEST_DELVE=$(CGO_ENABLED=0 sh test/delve/build.sh)
    export PORTHOLE_TEST_COMPOSE PORTHOLE_TEST_BUILDX PORTHOLE_TEST_DELVE
    PORTHOLE_TEST_BIN=$work/bin CGO_ENABLED=0 go test -count 1 -timeout 120m -run "$scripts" ./test/script || status=1
fi

reports=$(find "$work/reports" -type f | wc -l)
if [[ $reports -gt 0 ]]; then
    find "$work/reports" -type f -exec cat {} +
    status=1
fi
echo "race: $reports reports"
exit "$status"
