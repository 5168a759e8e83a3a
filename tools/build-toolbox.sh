#!/bin/sh
# Makes the toolbox image that portholed embeds:
# internal/toolbox/rootfs/bin/image.tar. Run before portholed is built; GOARCH
# chooses another architecture.
set -eu
cd "$(dirname "$0")/.."

arch=${GOARCH:-$(go env GOHOSTARCH)}
out=internal/toolbox/rootfs/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Images of one commit are the same wherever they are made.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct -- cmd/porthole-toolbox internal/toolbox 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"

CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags='-s -w' \
	-o "$work/porthole-toolbox" ./cmd/porthole-toolbox
GOOS='' GOARCH='' go run ./internal/toolbox/build -program "$work/porthole-toolbox" -arch "$arch" -output "$work/image.tar"

# An image that did not change keeps its time, and what depends on it too.
mkdir -p "$out"
if ! cmp -s "$work/image.tar" "$out/image.tar"; then
	mv "$work/image.tar" "$out/image.tar"
fi
echo "toolbox image: $(wc -c <"$out/image.tar") bytes"
