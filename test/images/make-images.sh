#!/bin/bash
#
# make-images.sh - makes the test images, without a container engine
#
# usage: make-images.sh [-c CACHE] [-u] DIRECTORY
#
# With -u nothing is done when the images in DIRECTORY were made of the same
# files, by the same Go, as there are now.
#
# Writes into DIRECTORY:
#   layout/          one OCI layout with all images; what they share is there once
#   NAME_TAG.tar     an OCI archive of each image ("/" and ":" become "_")
#   images.txt       a line for each image: its name, its archive, its digest
#   inputs.sha256    tells what they were made of, see -u
#   make-images.log  what the tools said
#
# CACHE (preset: /var/cache/porthole-test-images) keeps what was downloaded and compiled.
#
# Needs Debian 12, root with CAP_SYS_ADMIN, apt sources and 2 GB of memory;
# missing tools are installed. May be run again at any time: it makes everything
# anew, with the same digests as long as the Debian mirror and Go are the same.

set -Eeuo pipefail
shopt -s inherit_errexit
umask 022
exec 3>&2 # progress and errors, when the rest goes to the log

here=$(dirname "$(readlink -f "$0")")
cache=/var/cache/porthole-test-images
only_update=

usage() {
    sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
    exit "$1"
}

die() {
    echo "make-images.sh: $*" >&3
    exit 1
}

while getopts c:uh option; do
    case $option in
    c) cache=$OPTARG ;;
    u) only_update=1 ;;
    h) usage 0 ;;
    *) usage 2 >&2 ;;
    esac
done
[[ $# -eq $OPTIND ]] || usage 2 >&2
[[ $EUID -eq 0 ]] || die "has to be run by root"

mkdir -p "${!OPTIND}" "$cache"/{archives,lists}/partial
out=$(readlink -f "${!OPTIND}")
cache=$(readlink -f "$cache")

PATH=$PATH:/usr/local/go/bin

# inputs: tells apart what the images are made of, but for the Debian mirror
inputs() {
    {
        (cd "$here" && find . -type f ! -name README.md -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
        dpkg --print-architecture
        if command -v go >/dev/null; then GOTOOLCHAIN=local go version; fi
    } | sha256sum | cut -d ' ' -f 1
}

# complete: all archives of images.txt are there
complete() {
    [[ -s $out/images.txt ]] || return
    local archive
    while read -r _ archive _; do
        [[ -s $out/$archive ]] || return
    done <"$out/images.txt"
}

if [[ -n $only_update && -z ${IMAGES_WORK-} ]] && complete &&
    [[ $(cat "$out/inputs.sha256" 2>/dev/null) == $(inputs) ]]; then
    echo "make-images.sh: the images in $out are up to date"
    exit
fi
rm -f "$out/inputs.sha256"

# Everything is mounted in a namespace of its own, the work folder as well, so
# that nothing is left behind however the script ends.
if [[ -z ${IMAGES_WORK-} ]]; then
    IMAGES_WORK=$(mktemp -d)
    trap 'rmdir "$IMAGES_WORK"' EXIT
    export IMAGES_WORK
    unshare --mount --propagation private "$here/make-images.sh" "$@"
    exit
fi
work=$IMAGES_WORK
mount -t tmpfs -o mode=0755 images "$work"

layout=$work/layout
rootfs=$work/bundle/rootfs # where the image in the making is unpacked
arch=$(dpkg --print-architecture)
case $arch in
amd64) other_arch=arm64 ;;
arm64) other_arch=amd64 ;;
*) die "made for amd64 and arm64, not for $arch" ;;
esac

# For the tools, and for the package scripts which they run.
unset TMPDIR
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
export CGO_ENABLED=0 GOCACHE=$cache/go-build GOTOOLCHAIN=local

log=$out/make-images.log
exec >"$log" 2>&1
trap 'tail -n 20 "$log" >&3; echo "make-images.sh: failed in line $LINENO, see $log" >&3' ERR

say() {
    echo "== $*"
    printf '%4ds  %s\n' "$SECONDS" "$*" >&3
}

#### Tools and package sources

install_tools() {
    local missing=() tool
    for tool in mmdebstrap umoci skopeo; do
        command -v "$tool" || missing+=("$tool")
    done
    command -v go || missing+=(golang-go)

    apt-get -q update
    if [[ ${#missing[@]} -gt 0 ]]; then
        say "installing ${missing[*]}"
        apt-get -qy install --no-install-recommends "${missing[@]}"
    fi
}

# The images come from the Debian mirror of this machine, by the same proxy.
prepare_apt() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    apt-get indextargets --format "deb [signed-by=$keyring] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
        'Created-By: Packages' 'Origin: Debian' "Architecture: $arch" |
        sed -nE '/ bookworm(-updates|-security)? main$/p' | sort -u >"$work/sources.list"
    grep -q ' bookworm main$' "$work/sources.list" ||
        die "apt knows no source of Debian 12 (bookworm)"

    apt-config dump | sed -nE '/^Acquire::(https?|Check-|Retries)/p' >"$work/acquire.conf"
    cat "$work/acquire.conf" - >"$work/apt.conf" <<END
Dir "$rootfs";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::State::Lists "$cache/lists";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Chroot-Directory "$rootfs";
DPkg::Use-Pty "false";
Acquire::Languages "none";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
END
    apt_of_images -o Dir::State::status=/dev/null update

    # Everything is as old as the newest index of the mirror.
    SOURCE_DATE_EPOCH=$(sed -n 's/^Date: //p' "$cache"/lists/*Release |
        date -f - +%s | sort -n | tail -n 1)
    export SOURCE_DATE_EPOCH
    created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
}

# The apt of this machine, but the sources of the images and the dpkg in $rootfs.
apt_of_images() {
    APT_CONFIG=$work/apt.conf apt-get -qy "$@"
}

#### Steps of making an image; they work on $image, which begin sets

images=()

# begin IMAGE [PARENT]: the image starts as its parent, or as nothing
begin() {
    image=$1
    images+=("$image")
    say "$image"
    if [[ $# -gt 1 ]]; then
        umoci tag --image "$layout:$2" "$image"
    else
        umoci new --image "$layout:$image"
        configure --architecture "$arch" --os linux \
            --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    fi
}

# configure OPTION...: sets what umoci-config(1) can set
configure() {
    umoci config --image "$layout:$image" --created "$created" \
        --history.created "$created" --history.created_by "umoci config $*" "$@"
}

# add_tar FILE NOTE: adds a layer as it is
add_tar() {
    umoci raw add-layer --image "$layout:$image" \
        --history.created "$created" --history.created_by "$2" "$1"
}

# pack FOLDER FILE [OPTION...]: a tar file that is the same every time
pack() {
    tar -C "$1" -cf "$2" --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner "${@:3}" .
}

# copy FOLDER: adds a layer with what is in the folder
copy() {
    pack "$1" "$work/layer.tar" --mode=u=rwX,go=rX
    add_tar "$work/layer.tar" "COPY $(cd "$1" && echo *) /"
    rm "$work/layer.tar"
}

# run FUNCTION: adds a layer with what the function changes in $rootfs
run() {
    umoci unpack --image "$layout:$image" "$work/bundle"
    mkdir -p "$rootfs/var/cache/apt/archives"
    mount --bind "$cache/archives" "$rootfs/var/cache/apt/archives"
    mount --bind /dev "$rootfs/dev"
    mount -t proc proc "$rootfs/proc"
    "$1"
    umount "$rootfs/proc" "$rootfs/dev" "$rootfs/var/cache/apt/archives"
    clean_rootfs
    umoci repack --image "$layout:$image" \
        --history.created "$created" --history.created_by "RUN $1" "$work/bundle"
    rm -r "$work/bundle"
}

in_rootfs() {
    chroot "$rootfs" "$@"
}

# package_version PACKAGE: upstream's, without Debian's part
package_version() {
    dpkg-query --admindir="$rootfs/var/lib/dpkg" -W -f '${source:Upstream-Version}' "$1"
}

# Nothing of the day and the machine on which it was made stays in an image.
clean_rootfs() {
    rm -rf "$rootfs"/var/log/{apt/*,alternatives.log,dpkg.log} \
        "$rootfs"/var/cache/{debconf/*-old,ldconfig/aux-cache} \
        "$rootfs"/var/lib/dpkg/*-old "$rootfs"/etc/*- "$rootfs"/run/adduser "$rootfs"/tmp/*
    find "$rootfs" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

#### Base images

make_busybox() {
    local files=$work/busybox
    mkdir -p "$files"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,usr/sbin,var/spool/mail,var/tmp,var/www}
    (cd "$work" && apt_of_images -o Dir::State::status=/dev/null download busybox-static)
    dpkg-deb --fsys-tarfile "$work"/busybox-static_*.deb | tar -x -C "$files" ./bin/busybox
    chroot "$files" /bin/busybox --install /bin
    ln -s ../../bin/env "$files/usr/bin/env"
    cp "$here"/rootfs/busybox/etc/* "$files/etc"
    chmod 0600 "$files/etc/shadow"
    chmod 0700 "$files/root"
    chmod 1777 "$files/tmp" "$files/var/tmp"
    pack "$files" "$work/busybox.tar"

    begin busybox:latest
    add_tar "$work/busybox.tar" "ADD busybox.tar /"
    configure --config.cmd sh
}

make_debian() {
    begin debian:bookworm-slim
    # shellcheck disable=SC2016 # mmdebstrap gives $1 to its hooks
    TMPDIR=$work mmdebstrap --mode=root --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --aptopt="$work/acquire.conf" --dpkgopt="$here/dpkg-slim.cfg" \
        --setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
        --setup-hook="mount --bind '$cache/archives' \"\$1/var/cache/apt/archives\"" \
        --customize-hook='umount "$1/var/cache/apt/archives"' \
        --customize-hook='rm -f "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/apt/apt.conf.d/99mmdebstrap' \
        --customize-hook='mv "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/docker-slim"' \
        --skip=essential/unlink --format=tar \
        bookworm - - <"$work/sources.list" | mmtarfilter --path-exclude='/dev/*' >"$work/debian.tar"
    add_tar "$work/debian.tar" "ADD debian.tar /"
    rm "$work/debian.tar"
    copy "$here/rootfs/debian"
    configure --config.cmd bash
}

#### Images of services

# The names and numbers which users and volumes of the well-known images have.
add_service_user() {
    in_rootfs groupadd --system --gid 999 "$1"
    in_rootfs useradd --system --uid 999 --gid "$1" --home-dir "$2" --shell "$3" "$1"
}

install_webapp() {
    apt_of_images install python3-flask python-is-python3
}

make_webapp() {
    begin training/webapp:latest debian:bookworm-slim
    run install_webapp
    copy "$here/rootfs/webapp"
    configure --config.workingdir /opt/webapp --config.exposedports 5000/tcp \
        --config.cmd python --config.cmd app.py
}

install_nginx() {
    apt_of_images install nginx-light
    nginx_version=$(package_version nginx-light)
    rm "$rootfs/etc/nginx/sites-enabled/default"
    mkdir "$rootfs/docker-entrypoint.d"
    ln -sf /dev/stdout "$rootfs/var/log/nginx/access.log"
    ln -sf /dev/stderr "$rootfs/var/log/nginx/error.log"
}

make_nginx() {
    begin nginx:latest debian:bookworm-slim
    run install_nginx
    copy "$here/rootfs/nginx"
    configure --config.env "NGINX_VERSION=$nginx_version" --config.label maintainer=test-images \
        --config.exposedports 80/tcp --config.stopsignal SIGQUIT \
        --config.entrypoint /docker-entrypoint.sh \
        --config.cmd nginx --config.cmd -g --config.cmd 'daemon off;'
}

install_redis() {
    add_service_user redis /var/lib/redis /usr/sbin/nologin
    apt_of_images install redis-server
    redis_version=$(package_version redis-server)
    in_rootfs install -d -o redis -g redis /data
}

make_redis() {
    begin redis:latest debian:bookworm-slim
    run install_redis
    copy "$here/rootfs/redis"
    configure --config.env "REDIS_VERSION=$redis_version" \
        --config.exposedports 6379/tcp --config.volume /data --config.workingdir /data \
        --config.entrypoint docker-entrypoint.sh --config.cmd redis-server
}

# Without the sources of locales, and without what compiles queries: LLVM is as
# large as all the rest, and the server runs the same when it is not there.
install_postgres() {
    cat >"$rootfs/etc/dpkg/dpkg.cfg.d/postgres-slim" <<'END'
path-exclude=/usr/share/i18n/*
path-exclude=/usr/lib/*/libLLVM-*
path-exclude=/usr/lib/*/libz3.*
path-exclude=/usr/lib/llvm-*
path-exclude=/usr/lib/postgresql/*/lib/bitcode/*
path-exclude=/usr/lib/postgresql/*/lib/llvmjit*
END
    add_service_user postgres /var/lib/postgresql /bin/bash
    apt_of_images install postgresql-common
    echo 'create_main_cluster = false' >>"$rootfs/etc/postgresql-common/createcluster.conf"
    apt_of_images install postgresql-15
    postgres_version=$(package_version postgresql-15)
    rm -f "$rootfs"/etc/ssl/{certs,private}/* # a key of its own, made by ssl-cert
    echo "listen_addresses = '*'" >>"$rootfs/usr/share/postgresql/15/postgresql.conf.sample"
    mkdir "$rootfs/docker-entrypoint-initdb.d"
    in_rootfs install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data
    in_rootfs install -d -o postgres -g postgres -m 3777 /var/run/postgresql
}

make_postgres() {
    begin postgres:15 debian:bookworm-slim
    run install_postgres
    copy "$here/rootfs/postgres"
    configure --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin \
        --config.env LANG=C.UTF-8 --config.env PG_MAJOR=15 --config.env "PG_VERSION=$postgres_version" \
        --config.env PGDATA=/var/lib/postgresql/data \
        --config.exposedports 5432/tcp --config.volume /var/lib/postgresql/data --config.stopsignal SIGINT \
        --config.entrypoint docker-entrypoint.sh --config.cmd postgres
}

install_apache2() {
    apt_of_images install apache2
    ln -sf /dev/stdout "$rootfs/var/log/apache2/access.log"
    ln -sf /dev/stdout "$rootfs/var/log/apache2/other_vhosts_access.log"
    ln -sf /dev/stderr "$rootfs/var/log/apache2/error.log"
}

make_apache2() {
    begin docker-apache2:latest debian:bookworm-slim
    run install_apache2
    configure --config.exposedports 80/tcp \
        --config.cmd apachectl --config.cmd -D --config.cmd FOREGROUND
}

#### The guinea pig, and what is broken

# compile SOURCE FOLDER ARCHITECTURE [OPTION...]: puts the program into the folder
compile() {
    mkdir -p "$2"
    (cd "$here/$1" && GOOS=linux GOARCH=$3 go build -trimpath -buildvcs=false -o "$2/" "${@:4}" .)
}

make_hello() {
    begin distroless/hello:latest
    compile hello "$work/hello" "$arch"
    copy "$work/hello"
    configure --config.user 65532:65532 --config.exposedports 8080/tcp --config.workingdir / \
        --config.entrypoint /hello
}

# begin_broken NAME FAULT [PARENT]
begin_broken() {
    begin "broken/$1:latest" "${@:3}"
    configure --config.label "org.opencontainers.image.description=$2"
}

# add_entrypoint SCRIPT [MODE [SED-SCRIPT]]: adds a layer with that script of the
# folder broken, edited by sed, as /entrypoint.sh
add_entrypoint() {
    local files=$work/entrypoint
    mkdir "$files"
    sed "${3-}" "$here/broken/$1" >"$files/entrypoint.sh"
    chmod "${2-0755}" "$files/entrypoint.sh"
    copy "$files"
    rm -r "$files"
    configure --config.entrypoint /entrypoint.sh --clear config.cmd
}

make_broken() {
    begin_broken crlf 'The first line of the entrypoint ends in CR LF.' busybox:latest
    add_entrypoint greet.sh 0755 's/$/\r/'

    begin_broken noloader 'A dynamic program without the loader that it names.'
    compile broken/app "$work/noloader" "$arch" -buildmode=pie -ldflags='-s -w'
    copy "$work/noloader"
    configure --config.entrypoint /app

    begin_broken wrongarch 'A program for another processor than the image says.'
    compile broken/app "$work/wrongarch" "$other_arch" -ldflags='-s -w'
    copy "$work/wrongarch"
    configure --config.entrypoint /app

    begin_broken noexec 'The entrypoint is not executable.' busybox:latest
    add_entrypoint greet.sh 0644

    begin_broken nosuchcmd 'The command names a file which is not there.' busybox:latest
    configure --config.cmd /usr/local/bin/start-app

    begin_broken pid1-ignores-term 'PID 1 does not stop on SIGTERM.' busybox:latest
    add_entrypoint pid1-ignores-term.sh

    begin_broken zombies 'PID 1 reaps none of the orphans.' busybox:latest
    add_entrypoint zombies.sh

    begin_broken localhost-bind 'The server listens on 127.0.0.1 only.' busybox:latest
    copy "$here/rootfs/localhost-bind"
    configure --config.exposedports 8080/tcp --config.cmd httpd --config.cmd -f --config.cmd -v \
        --config.cmd -p --config.cmd 127.0.0.1:8080 --config.cmd -h --config.cmd /www

    begin_broken readonly 'Writes to /etc, but is not root.' busybox:latest
    add_entrypoint readonly.sh
    configure --config.user 1000:1000

    begin_broken dnsfail 'Looks for a host whose name does not resolve.' busybox:latest
    add_entrypoint dnsfail.sh
    configure --config.env BACKEND=backend:8080
}

#### Output

write_images() {
    local archive
    say "writing ${#images[@]} images to $out"
    umoci gc --layout "$layout"
    chmod -R u=rwX,go=rX "$layout"
    for image in "${images[@]}"; do
        archive=${image//[\/:]/_}.tar
        rm -f "$out/$archive"
        skopeo --insecure-policy --tmpdir "$work" copy -q "oci:$layout:$image" "oci-archive:$out/$archive:$image"
        echo "$image $archive $(skopeo inspect --format '{{.Digest}}' "oci:$layout:$image")" >>"$work/images.txt"
    done
    rm -rf "$out/layout"
    cp -r "$layout" "$work/images.txt" "$out"
    inputs >"$out/inputs.sha256"
}

install_tools
prepare_apt
umoci init --layout "$layout"
make_busybox
make_debian
make_webapp
make_nginx
make_redis
make_postgres
make_apache2
make_hello
make_broken
write_images
say "done"
