#!/bin/bash
# install.sh: installs what `make build man` has left in bin, with systemd units
# and completion. The Makefile sets DESTDIR, BINDIR and UNITDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${DESTDIR=}" "${BINDIR:=/usr/local/bin}" "${UNITDIR:=/etc/systemd/system}"
share=${BINDIR%/bin}/share

# Only a tree of one's own can be written without root.
if [[ $EUID -ne 0 && -z $DESTDIR ]]; then
    export DESTDIR BINDIR UNITDIR
    exec sudo -- env "DESTDIR=$DESTDIR" "BINDIR=$BINDIR" "UNITDIR=$UNITDIR" bash contrib/install.sh
fi

for program in porthole porthole-build portholed porthole-shim porthole-oci; do
    install -D -m 0755 "bin/$program" "$DESTDIR$BINDIR/$program"
done

for unit in porthole.service porthole.socket; do
    install -d "$DESTDIR$UNITDIR"
    sed "s|@BINDIR@|$BINDIR|g" "contrib/systemd/$unit.in" >"$DESTDIR$UNITDIR/$unit"
    chmod 0644 "$DESTDIR$UNITDIR/$unit"
done

complete() { # SHELL FILE
    install -d "$(dirname "$DESTDIR$2")"
    bin/porthole completion "$1" >"$DESTDIR$2"
    chmod 0644 "$DESTDIR$2"
}
complete bash "$share/bash-completion/completions/porthole"
complete zsh "$share/zsh/site-functions/_porthole"
complete fish "$share/fish/vendor_completions.d/porthole.fish"

install -d "$DESTDIR$share/man/man1"
install -m 0644 bin/man/*.1 "$DESTDIR$share/man/man1/"

if [[ -z $DESTDIR ]]; then
    getent group porthole >/dev/null || groupadd --system porthole
    if [[ -d /run/systemd/system ]]; then
        systemctl daemon-reload
    fi
fi
echo "installed in $DESTDIR$BINDIR; start it with: systemctl enable --now porthole.socket"
