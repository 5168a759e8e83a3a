package why

import (
	"net/netip"
	"regexp"
	"testing"
)

func TestWords(t *testing.T) {
	tests := []struct {
		line string
		says *regexp.Regexp // the first of wordRules that matches; nil: none
		what string         // the name or library that is taken out of it
	}{
		{"wget: bad address 'backend:8080'", saysName, "backend"},
		{"curl: (6) Could not resolve host: api.test", saysName, "api.test"},
		{"dial tcp: lookup db on 127.0.0.11:53: no such host", saysName, "db"},
		{"dial tcp: lookup db: no such host", saysName, "db"},
		{"Error: getaddrinfo ENOTFOUND redis", saysName, "redis"},
		{"Error: getaddrinfo EAI_AGAIN redis redis:6379", saysName, "redis"},
		{"java.net.UnknownHostException: broker", saysName, "broker"},
		{`could not translate host name "pg" to address: Name or service not known`, saysName, "pg"},
		{"ping: web: Name or service not known", saysName, "web"},
		{"nginx: [emerg] host not found in upstream \"app\"", saysName, "app"},
		{"socket.gaierror: [Errno -2] Name or service not known", saysNameOnly, ""},
		{"app: error while loading shared libraries: libfoo.so.1: cannot open shared object file", saysLibrary, "libfoo.so.1"},
		{"Error loading shared library libssl.so.3: No such file or directory (needed by /app)", saysLibrary, "libssl.so.3"},
		{"/entrypoint.sh: line 4: can't create /etc/app.conf: Permission denied", saysDenied, ""},
		{"Error: EACCES: permission denied, open '/data/x'", saysDenied, ""},
		{"touch: /x: Read-only file system", saysRO, ""},
		{"OSError: [Errno 30] Read-only file system: '/x'", saysRO, ""},
		{"write /var/log/x: no space left on device", saysFull, ""},
		{"http: Accept error: accept tcp [::]:8080: accept4: too many open files; retrying in 5ms", saysFiles, ""},
		{"sh: can't fork: Resource temporarily unavailable", saysFork, ""},
		{"runtime: failed to create new OS thread (have 5 already; errno=11)", saysFork, ""},
		{"bind: address already in use", saysInUse, ""},
		{"connection refused", nil, ""},
		{"all is well", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			var got *regexp.Regexp
			for _, w := range wordRules {
				if w.says.MatchString(tt.line) {
					got = w.says
					break
				}
			}
			if got != tt.says {
				t.Fatalf("matched %v, want %v", got, tt.says)
			}
			if tt.what != "" && group(got, tt.line) != tt.what {
				t.Errorf("took %q out of it, want %q", group(got, tt.line), tt.what)
			}
		})
	}
}

func TestParseSocket(t *testing.T) {
	for s, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000:0050":                         "0.0.0.0:80",
		"00000000000000000000000001000000:0050": "[::1]:80",
		"0000000000000000FFFF00000100007F:0050": "127.0.0.1:80",
		"zz:1":                                  "",
		"0100007F":                              "",
		"":                                      "",
	} {
		got, ok := parseSocket(s)
		if ok != (want != "") || ok && got != netip.MustParseAddrPort(want) {
			t.Errorf("parseSocket(%q) = %v, %v, want %q", s, got, ok, want)
		}
	}
}
