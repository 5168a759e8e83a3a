#!/bin/bash
# install-test-tools.sh: installs from Debian or Ubuntu what the tests need and
# is not there. Run by root.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# PROGRAM PACKAGE...: the first package that exists is taken
wanted() {
    cat <<'END'
ip iproute2
nft nftables
curl curl
ps procps
git git
ssh-agent openssh-client
xz xz-utils
bzip2 bzip2
shellcheck shellcheck
busybox busybox-static busybox
docker docker-cli docker.io
dockerd docker.io
umoci umoci
skopeo skopeo
mmdebstrap mmdebstrap
docker-registry docker-registry
linux.uml user-mode-linux
mkfs.ext4 e2fsprogs
modprobe kmod
setpriv util-linux
systemd-analyze systemd
END
}

first_known() {
    local package
    for package in "$@"; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            echo "$package"
            return
        fi
    done
    echo "porthole: apt knows none of: $*" >&2
    return 1
}

missing=()
while read -r program packages; do
    if ! command -v "$program" >/dev/null; then
        missing+=("$packages")
    fi
done < <(wanted)
if [[ ${#missing[@]} -eq 0 ]]; then
    exit
fi
command -v apt-get >/dev/null || {
    echo "porthole: not Debian or Ubuntu: install by hand: ${missing[*]}" >&2
    exit 1
}

apt-get -q update >/dev/null
install=()
for packages in "${missing[@]}"; do
    # shellcheck disable=SC2086 # several names
    install+=("$(first_known $packages)")
done
mapfile -t install < <(printf '%s\n' "${install[@]}" | sort -u)
echo "installing ${install[*]}"
# No service may start because of us: Docker's would change the host's network.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
fi
apt-get -qy install --no-install-recommends "${install[@]}" >/dev/null
