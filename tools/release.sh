#!/bin/bash
# release.sh [OUTPUT]: makes what is published of the commit that is checked out,
# in OUTPUT (dist if not given). For each architecture: an archive of programs,
# units, manual, licence and documents, which its contrib/install.sh installs; a
# CycloneDX list of the modules in each program; and the checksums of all. The
# commit is built in a folder of its own: nothing that is not committed gets in,
# and nothing of the folder's name.
#   PORTHOLE_RELEASE_ARCHES  the architectures, "amd64 arm64" if not set
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD out=${1:-dist}
arches=${PORTHOLE_RELEASE_ARCHES:-amd64 arm64}
programs=(porthole porthole-build portholed porthole-shim porthole-oci)

git diff --quiet HEAD -- || echo "release: what is not committed is left out" >&2
# Of a length that does not hang on how much a clone holds.
VERSION=$(git describe --tags --always --abbrev=12)
COMMIT=$(git rev-parse --short=12 HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
BUILT=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)
export VERSION COMMIT SOURCE_DATE_EPOCH BUILT
export CGO_ENABLED=0 GOOS=linux GOFLAGS=-mod=readonly LC_ALL=C TZ=UTC
# A machine's settings for Go have no say in what is published.
unset GOAMD64 GOARM64 GOEXPERIMENT GODEBUG

mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/porthole-*.tar.gz "$out"/porthole-*.cdx.json "$out/SHA256SUMS"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive HEAD | tar -x -C "$work"

# What is built has to be what go.sum says, also where the cache was touched.
(cd "$work" && go mod verify)
(cd "$root" && GOOS='' go build -modfile=tools/go.mod -o "$work/.sbom" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)

for arch in $arches; do
    name=porthole-$VERSION-linux-$arch
    rm -rf "${work:?}/bin"
    GOARCH='' make --no-print-directory -C "$work" man
    GOARCH=$arch make --no-print-directory -C "$work" build
    mkdir -p "$work/$name/bin" "$work/$name/contrib/systemd"
    for program in "${programs[@]}"; do
        install -m 0755 "$work/bin/$program" "$work/$name/bin/$program"
        "$work/.sbom" bin -json -noserial -notimestamp -std -version "$VERSION" \
            -output "$out/$name-$program.cdx.json" "$work/bin/$program"
    done
    cp "$work/LICENSE" "$work/README.md" "$work/$name/"
    cp -r "$work/bin/man" "$work/$name/bin/"
    cp -r "$work/docs" "$work/$name/"
    cp "$work/contrib/install.sh" "$work/$name/contrib/"
    cp "$work"/contrib/systemd/*.in "$work/$name/contrib/systemd/"
    chmod -R u=rwX,go=rX "$work/$name"
    tar -C "$work" --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
done
(cd "$out" && sha256sum porthole-*.tar.gz porthole-*.cdx.json >SHA256SUMS)
cat "$out/SHA256SUMS"
