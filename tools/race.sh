#!/bin/bash
# race.sh: looks for data races. First the tests of packages run, with the race
# detector in them; then test/script, and smaller than else test/hostile, test/exhaust,
# test/apifuzz, test/crash and test/load, against programs that it is built into. Ends
# with 1 if a test fails, or any process of ours has reported a race. Run by root;
# CONTRIBUTING.md says how long it takes. Ends with a list of what was skipped, and why.
#   RACE  which parts, a regular expression of their directories: '^internal/network$'
#   RUN   which tests of those, as for go test -run
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $EUID -ne 0 ]]; then
    exec bash tools/as-root.sh env RACE="${RACE-}" RUN="${RUN-}" bash "$0"
fi
command -v gcc >/dev/null || {
    echo "race: the race detector needs a C compiler: gcc" >&2
    exit 1
}
images=${PORTHOLE_TEST_IMAGES:-/var/cache/porthole-test-images/images}
bash tools/install-test-tools.sh
test/images/make-images.sh -u "$images"
# portholed embeds it, and builds without it as well.
CGO_ENABLED=0 make --no-print-directory toolbox

work=$(mktemp -d /var/tmp/porthole-race-XXXXXX)
trap 'rm -rf "$work"' EXIT
# Programs that catch these end by themselves, and we would go on with the next.
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work/bin"
# Processes of other users report there as well.
chmod 711 "$work"
mkdir -m 1777 "$work/reports"
skips=$work/skips
: >"$skips"
export PORTHOLE_TEST_SKIPS=$skips PORTHOLE_TEST_STRICT=1 PORTHOLE_TEST_IMAGES=$images

failed=()
# part NAME COMMAND...: runs it, and says how long it took.
part() {
    local name=$1 began=$SECONDS
    shift
    "$@" || failed+=("$name")
    echo "race: $name took $((SECONDS - began)) s"
}

mapfile -t parts < <({
    go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | sed "s,^$PWD/,," | grep -v '^test/'
    printf 'test/%s\n' script hostile exhaust apifuzz crash load
} | grep -E -- "${RACE:-.}")

# The detector is a C++ library.
build() {
    CGO_ENABLED=1 go build -race -o "$work/bin/" ./cmd/porthole ./cmd/porthole-build ./cmd/portholed ./cmd/porthole-oci
    # It is also the init of containers, in which there is no loader.
    CGO_ENABLED=1 go build -race -tags netgo,osusergo -ldflags '-linkmode external -extldflags -static' -o "$work/bin/" ./cmd/porthole-shim
    PORTHOLE_TEST_COMPOSE=$(CGO_ENABLED=0 sh test/compose/build.sh)
    PORTHOLE_TEST_BUILDX=$(CGO_ENABLED=0 sh test/buildx/build.sh)
    PORTHOLE_TEST_DELVE=$(CGO_ENABLED=0 sh test/delve/build.sh)
    export PORTHOLE_TEST_BIN=$work/bin PORTHOLE_TEST_COMPOSE PORTHOLE_TEST_BUILDX PORTHOLE_TEST_DELVE
}

package() {
    # Programs of ours that a test starts report to the file, and a test does not fail for that.
    CGO_ENABLED=1 GORACE="log_path=$work/reports/report suppressions=$PWD/test/bed/races.suppressions" go test -race -count 1 -timeout 60m -run "${RUN-}" "./$1"
}

# The tests themselves have no detector in them: it is the programs that are looked at.
suite() {
    CGO_ENABLED=0 go test -count 1 -timeout 240m -run "${RUN-}" "./$1"
}

built=
for name in "${parts[@]}"; do
    if [[ $name != test/* ]]; then
        part "$name" package "$name"
        continue
    fi
    if [[ -z $built ]]; then
        began=$SECONDS
        build
        built=1
        echo "race: the build of the programs took $((SECONDS - began)) s"
    fi
    part "$name" suite "$name"
done

reports=$(find "$work/reports" -type f | wc -l)
if [[ $reports -gt 0 ]]; then
    find "$work/reports" -type f -exec cat {} +
    failed+=("$reports reports of packages")
fi
echo "race: skipped: $(wc -l <"$skips")"
sort "$skips"
if [[ ${#failed[@]} -gt 0 ]]; then
    printf 'race: FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "race: passed: ${#parts[@]} parts"
