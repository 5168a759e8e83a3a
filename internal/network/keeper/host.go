package keeper

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/network/resolver"
)

// hostServers are the host's name servers, as /etc/resolv.conf names them now. A
// stub like that of systemd-resolved is asked as it is: we are in the host's
// network, where it can be reached, and it knows more than the servers behind it.
type hostServers struct {
	path string

	mu      sync.Mutex
	looked  time.Time
	changed time.Time
	list    []resolver.Upstream
}

// lookAgain is how often the file is looked at.
const lookAgain = time.Second

func (h *hostServers) servers() []resolver.Upstream {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.looked) < lookAgain {
		return h.list
	}
	h.looked = time.Now()
	info, err := os.Stat(h.path)
	if err != nil {
		h.list, h.changed = nil, time.Time{}
		return nil
	}
	if info.ModTime().Equal(h.changed) {
		return h.list
	}
	text, err := os.ReadFile(h.path)
	if err != nil {
		return h.list
	}
	h.changed, h.list = info.ModTime(), nil
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			h.list = append(h.list, resolver.Upstream{Addr: netip.AddrPortFrom(a, 53), From: h.path})
		}
	}
	return h.list
}
