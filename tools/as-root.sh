#!/bin/bash
# as-root.sh COMMAND...: runs the command as root, with Go on its path, the
# caller's module cache, and the variables that our scripts know.
set -euo pipefail

if [[ $EUID -eq 0 ]]; then
    exec "$@"
fi
command -v sudo >/dev/null || {
    echo "porthole: this needs root, and there is no sudo" >&2
    exit 1
}

pass=("PATH=$PATH" "CGO_ENABLED=0" "GOFLAGS=-buildvcs=false")
for name in GOPROXY GONOSUMDB GOSUMDB GOTOOLCHAIN CI DEBIAN_FRONTEND; do
    if [[ -n ${!name-} ]]; then
        pass+=("$name=${!name}")
    fi
done
while IFS='=' read -r name _; do
    case $name in
    PORTHOLE_* | [a-z]*_proxy | *_PROXY) pass+=("$name=${!name}") ;;
    esac
done < <(env)
if command -v go >/dev/null; then
    pass+=("GOMODCACHE=$(go env GOMODCACHE)")
fi
exec sudo -- env "${pass[@]}" "$@"
