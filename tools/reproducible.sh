#!/bin/bash
# reproducible.sh: makes the release twice, from clones in folders of other names
# and with empty build caches, and compares the checksums of all there is.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD commit=$(git rev-parse HEAD)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for folder in one another/and-deeper; do
    began=$SECONDS
    mkdir -p "$work/$folder"
    git clone --quiet --no-hardlinks "$root" "$work/$folder/source"
    git -C "$work/$folder/source" checkout --quiet --detach "$commit"
    mkdir "$work/$folder/cache" "$work/$folder/tmp"
    GOCACHE=$work/$folder/cache TMPDIR=$work/$folder/tmp \
        bash "$work/$folder/source/tools/release.sh" "$work/$folder/out" >"$work/$folder/log" 2>&1 || {
        cat "$work/$folder/log" >&2
        echo "reproducible: the release was not made" >&2
        exit 1
    }
    echo "reproducible: built in $((SECONDS - began)) s"
    rm -rf "$work/$folder/cache"
done

if ! diff "$work/one/out/SHA256SUMS" "$work/another/and-deeper/out/SHA256SUMS"; then
    echo "reproducible: two builds of ${commit:0:12} differ" >&2
    exit 1
fi
echo "reproducible: two builds of ${commit:0:12} are the same, $(wc -l <"$work/one/out/SHA256SUMS") files"
