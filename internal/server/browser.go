package server

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/problem"
)

// checkBrowser refuses what a page of another site has a browser send. A browser
// reaches the API by TCP only, also where that listens on loopback alone: a page
// may send POST without a body, as "build this URL" is, and open websockets to
// whatever address it likes. It says so by Origin and Sec-Fetch-Site, which a page
// cannot leave out (https://fetch.spec.whatwg.org). A page whose own name leads to
// this machine (DNS rebinding) shows by Host, which then is that name. Programs send
// neither of the first two, but for clients of websockets, whose Origin is the
// address that they were given.
func checkBrowser(r *http.Request) error {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return nil
	}
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	switch {
	case site == "cross-site", site == "same-site", origin != "" && !isOrigin(origin, r.Host):
		return problem.WithHint(errdefs.ErrPermissionDenied.WithMessage("the request comes from a page of another site in a browser"),
			"use a program, as porthole or curl, or one that sends no Origin header")
	case (origin != "" || local.IP.IsLoopback()) && !isOurName(r.Host):
		return problem.WithHint(errdefs.ErrPermissionDenied.WithMessage("the request is for host "+r.Host+", which is no name of this machine"),
			"use an address, localhost, or the name that 'hostname' prints")
	}
	return nil
}

// isOrigin tells whether a page with that origin comes from host, "name[:port]".
func isOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// isOurName tells whether no stranger can have given host, "name[:port]", to this
// machine. None at all is no browser's.
func isOurName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	own, err := os.Hostname()
	return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && name == strings.ToLower(own)
}
