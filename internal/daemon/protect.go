package daemon

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/portholehq/porthole/api"
)

// Sockets are the paths of the unix sockets that the API is listened on by name.
func (c *Config) Sockets() []string {
	var list []string
	for _, host := range c.Hosts {
		if path, ok := strings.CutPrefix(host, "unix://"); ok {
			list = append(list, path)
		}
	}
	return list
}

// Protection tells of each listener of the API who can come by it, and what is wrong with that.
func (c *Config) Protection(listeners []net.Listener) []api.SecurityCheck {
	var list []api.SecurityCheck
	for _, l := range listeners {
		check := api.SecurityCheck{Name: "API on " + l.Addr().Network() + "://" + l.Addr().String()}
		switch l.(type) {
		case *net.UnixListener:
			socketProtection(&check, l.Addr().String())
		case *net.TCPListener:
			check.State, check.Text = api.SecurityOff, "neither encrypted nor asks who comes: who reaches the port is root of this machine"
			check.Try = "listen on a unix socket, or set --tlsverify; from afar: porthole -H ssh://HOST"
		default:
			tlsProtection(&check, c.TLSVerify)
		}
		list = append(list, check)
	}
	return list
}

func tlsProtection(check *api.SecurityCheck, verify bool) {
	if verify {
		check.State, check.Text = api.SecurityOn, "TLS; clients need a certificate of the configured authority"
		return
	}
	check.State, check.Text = api.SecurityOff, "encrypted, but does not ask who comes: who reaches the port is root of this machine"
	check.Try = "set --tlsverify and --tlscacert"
}

// socketProtection tells who may write to a socket, which is who may connect.
func socketProtection(check *api.SecurityCheck, path string) {
	if strings.HasPrefix(path, "@") {
		check.State, check.Text = api.SecurityOff, "an abstract socket: everybody in this network namespace is root of this machine"
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		check.State, check.Text = api.SecurityUnknown, err.Error()
		return
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeSocket == 0 {
		check.State, check.Text = api.SecurityOff, "another file has taken the place of the socket"
		return
	}
	mode := info.Mode().Perm()
	check.State, check.Text = api.SecurityOn, fmt.Sprintf("mode %04o, for root alone", mode)
	switch {
	case mode&0o002 != 0:
		check.State, check.Text = api.SecurityOff, fmt.Sprintf("mode %04o: every user of this machine is as good as root", mode)
		check.Try = "chmod o-w " + path
	case st.Uid != 0:
		check.State, check.Text = api.SecurityPartly, fmt.Sprintf("mode %04o, of uid %d, who is as good as root", mode, st.Uid)
		check.Try = "chown root " + path
	case mode&0o020 != 0 && st.Gid != 0:
		check.Text = fmt.Sprintf("mode %04o, for root and group %s, whose members are as good as root", mode, groupName(st.Gid))
	}
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}
