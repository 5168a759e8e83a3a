package applet

import (
	"strconv"
	"testing"
)

func TestParseSocket(t *testing.T) {
	tests := []struct {
		name, line, kind string
		want             string
		ok               bool
	}{
		{
			"listening", "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0", "tcp",
			"LISTEN 127.0.0.1:8080 0.0.0.0:* 3 0 4711", true,
		},
		{
			"IPv6, connected", "   1: 0000000000000000FFFF00000100007F:0016 B80D01200000000000000000010000FF:C001 01 00000005:00000000 00:00000000 00000000     0        0 12 1 0", "tcp6",
			"ESTAB [::ffff:127.0.0.1]:22 [2001:db8::ff00:1]:49153 0 5 12", true,
		},
		{"heading", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "tcp", "", false},
		{"cut", "   0: 0100007F:1F90 0000", "tcp", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, ok := parseSocket(tt.line, tt.kind)
			if ok != tt.ok {
				t.Fatalf("ok %t", ok)
			}
			if !ok {
				return
			}
			got := s.state + " " + endText(s.local) + " " + endText(s.remote) + " " + strconv.FormatUint(s.recv, 10) + " " + strconv.FormatUint(s.send, 10) + " " + s.inode
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
