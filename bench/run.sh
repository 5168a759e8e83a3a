#!/bin/bash
# run.sh [OPTION...]: builds and runs the comparison, see main.go. Run by root,
# from `make bench`, after a build.
set -euo pipefail
cd "$(dirname "$0")/.."
images=${PORTHOLE_TEST_IMAGES:-/var/cache/porthole-test-images/images}

bash tools/install-test-tools.sh
test/images/make-images.sh -u "$images"
dir=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -buildvcs=false -o "$dir/bench" ./bench
# Copies, as they are installed: the linker leaves its output in single pages of
# the page cache, from which a program starts half a millisecond later.
install bin/porthole bin/porthole-build bin/portholed bin/porthole-shim "$dir"
PORTHOLE_TEST_BIN=$dir "$dir/bench" -images "$images" "$@"
