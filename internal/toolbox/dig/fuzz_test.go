package dig

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/portholehq/porthole/internal/toolbox/screen"
)

// FuzzReply shows whatever a server answers. It has no effect on the terminal, and
// makes no lines that look like others.
func FuzzReply(f *testing.F) {
	m := new(dns.Msg).SetQuestion("odd.test.", dns.TypeTXT)
	m.SetEdns0(1232, true)
	for _, text := range []string{
		`odd.test. 60 IN TXT "a\027[31mb"`, `a\010b.test. 60 IN NS c\255.test.`, "odd.test. 60 IN HINFO x y", "odd.test. 60 IN TYPE65280 \\# 3 0a0d1b", "odd.test. 60 IN SVCB 1 . alpn=\"h2\"",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false)
	f.Add(b, true)
	f.Fuzz(func(t *testing.T, answer []byte, short bool) {
		m := new(dns.Msg)
		if m.Unpack(answer) != nil {
			return
		}
		q := newQuery()
		q.short = short
		var out bytes.Buffer
		p := &printer{out: &out, q: &q}
		p.reply(&reply{msg: m})
		records := len(m.Answer) + len(m.Ns) + len(m.Extra)
		if n := strings.Count(out.String(), "\n"); short && n != len(m.Answer) || n > records+len(m.Question)+100 {
			t.Errorf("%d lines of %d records", n, records)
		}
		p.referral(&reply{msg: m})
		for line := range strings.SplitSeq(out.String(), "\n") {
			if text := strings.ReplaceAll(line, "\t", " "); screen.Visible(text) != text {
				t.Errorf("line %q", line)
			}
		}
	})
}
