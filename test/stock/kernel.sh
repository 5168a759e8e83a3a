#!/bin/bash
# kernel.sh: gets Debian's kernel for this machine, and AppArmor's parser, unless
# that was done before, and prints the folder with
#
#   vmlinuz initrd      to boot
#   lib/modules         of the kernel
#   apparmor            the files of the package
#   version             of both, for people
#
# The newest that apt knows is taken; with PORTHOLE_TEST_STOCK_SUITE that of another
# suite's kernel, as trixie, from the same archive. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")"
suite=${PORTHOLE_TEST_STOCK_SUITE-}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/porthole-test
mkdir -p "$cache"
work=$(mktemp -d "$cache/stock.XXXXXX")
trap 'rm -rf "$work"' EXIT

# A user who downloads cannot always look into the caller's folders.
options=(-o APT::Sandbox::User=root)
if [[ -n $suite ]]; then
    # shellcheck disable=SC2016 # apt's, not the shell's
    archive=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 '/debian$')
    mkdir -p "$work/apt/lists/partial"
    echo "deb $archive $suite main" >"$work/apt/sources.list"
    options+=(-o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/apt/lists"
        -o "Dir::Cache=$work/apt" -o Acquire::Languages=none)
    apt-get -q "${options[@]}" update >/dev/null
fi
arch=$(dpkg --print-architecture)
image=$(apt-cache "${options[@]}" depends "linux-image-$arch" | sed -n 's/^ *Depends: *//p')
# The parser is to run with this machine's libraries.
versions=$(
    apt-cache "${options[@]}" show --no-all-versions "$image"
    apt-cache show --no-all-versions apparmor
)
versions=$(awk '/^Package:/ { package = $2 } /^Version:/ { print package, $2 }' <<<"$versions")
dir=$cache/stock-$({ cat kernel.sh initrd.sh && echo "$versions"; } | sha256sum | cut -c1-12)

if [[ ! -e $dir ]]; then
    cd "$work"
    apt-get -q "${options[@]}" download "$image" >/dev/null
    apt-get -q -o APT::Sandbox::User=root download apparmor >/dev/null
    dpkg-deb -x "$image"_*.deb kernel
    dpkg-deb -x apparmor_*.deb apparmor
    mkdir lib
    mv kernel/boot/vmlinuz-* vmlinuz
    mv kernel/usr/lib/modules lib/modules 2>/dev/null || mv kernel/lib/modules lib/modules
    release=$(ls lib/modules)
    depmod -b . "$release"
    echo "$versions" >version

    # What the machine needs before it has the host's files.
    mkdir -p initrd.d/{bin,dev,proc,sys,host,above,new,modules}
    cp "$(command -v busybox)" initrd.d/bin/busybox
    install -m 0755 "$OLDPWD/initrd.sh" initrd.d/init
    number=100
    modprobe -d . -S "$release" --show-depends -a virtio_pci 9pnet_virtio 9p virtio_blk ext4 overlay |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
        while read -r module; do
            name=$(basename "$module" .xz)
            case $module in
            *.xz) xz -dc "$module" ;;
            *) cat "$module" ;;
            esac >"initrd.d/modules/$((number++))-$name"
        done
    (cd initrd.d && find . | busybox cpio -o -H newc 2>/dev/null) >initrd
    rm -rf kernel initrd.d apt ./*.deb
    cd "$OLDPWD"
    mv "$work" "$dir"
fi
echo "Debian's kernel for test/stock: $(tr '\n' ' ' <"$dir/version")" >&2
echo "$dir"
