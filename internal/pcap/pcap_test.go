package pcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	var file bytes.Buffer
	w := NewWriter(&file, "test")
	ifaces := []Interface{{Name: "lo", LinkType: 1, SnapLen: 100}, {Name: "tun0", LinkType: 101, SnapLen: 100}}
	packets := []Packet{
		{Time: time.Unix(1700000000, 123456789), Length: 60, Data: []byte("first")},
		{Time: time.Unix(1700000001, 0), Interface: 1, Outgoing: true, Length: 4, Data: []byte("next")},
		{Time: time.Unix(1700000002, 1), Interface: 1, Data: []byte{}},
	}
	for _, i := range ifaces {
		if _, err := w.Interface(i); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range packets {
		if err := w.Packet(p); err != nil {
			t.Fatal(err)
		}
	}
	stats := Statistics{Received: 7, Dropped: 4}
	if err := w.Statistics(time.Now(), stats); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(file.Bytes())
	r, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	var got []Packet
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p != nil {
			p.Data = bytes.Clone(p.Data)
			got = append(got, *p)
		}
	}
	if diff := cmp.Diff(packets, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(ifaces, r.Interfaces()); diff != "" {
		t.Error(diff)
	}
	if r.Statistics() != stats {
		t.Errorf("statistics %+v", r.Statistics())
	}
	// A stream that breaks off is no whole file.
	for n := range len(whole) {
		if err := readAll(whole[:n]); errors.Is(err, io.EOF) && !endsBlock(whole, n) {
			t.Errorf("cut at %d of %d it is whole", n, len(whole))
		}
	}
}

// endsBlock tells whether a block ends at n.
func endsBlock(b []byte, n int) bool {
	at := 0
	for at < n {
		at += int(binary.NativeEndian.Uint32(b[at+4:]))
	}
	return at == n
}

// readAll returns the error at which reading ends.
func readAll(b []byte) error {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return err
	}
	text := new(Text)
	for {
		p, err := r.Next()
		if err != nil {
			return err
		}
		if p != nil {
			text.Full(r.Interfaces()[p.Interface], p)
		}
	}
}

// TestForeign reads a file of the other byte order, with microseconds, as older
// programs write it.
func TestForeign(t *testing.T) {
	block := func(kind uint32, body []byte) []byte {
		n := uint32(len(body) + 12)
		b := binary.BigEndian.AppendUint32(nil, kind)
		b = binary.BigEndian.AppendUint32(b, n)
		return binary.BigEndian.AppendUint32(append(b, body...), n)
	}
	b := block(blockSection, append(binary.BigEndian.AppendUint32(nil, byteOrder), 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255))
	b = append(b, block(blockInterface, []byte{0, 1, 0, 0, 0, 0, 0, 0})...)
	b = append(b, block(0xbad, []byte("what nobody knows is not looked at"[:32]))...)
	at := uint64(1_700_000_000_250_000)
	body := binary.BigEndian.AppendUint32(nil, 0)
	body = binary.BigEndian.AppendUint64(body, at)
	body = binary.BigEndian.AppendUint32(body, 3)
	body = binary.BigEndian.AppendUint32(body, 99)
	b = append(b, block(blockPacket, append(body, 'a', 'b', 'c', 0))...)
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			continue
		}
		want := Packet{Time: time.Unix(1700000000, 250e6), Length: 99, Data: []byte("abc")}
		if diff := cmp.Diff(want, *p); diff != "" {
			t.Error(diff)
		}
		return
	}
}

func TestWrong(t *testing.T) {
	for name, b := range map[string][]byte{
		"no file":   []byte("#!/bin/sh\necho hello, world"),
		"pcap":      {0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0},
		"too long":  {0x0a, 0x0d, 0x0d, 0x0a, 0xff, 0xff, 0xff, 0x7c, 0x4d, 0x3c, 0x2b, 0x1a},
		"too short": {0x0a, 0x0d, 0x0d, 0x0a, 4, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a},
	} {
		if err := readAll(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// ethernetIPv4 is a header of Ethernet and one of IP.
const ethernetIPv4 = "0242ac1f0002" + "0242ac1f0003" + "0800"

func TestText(t *testing.T) {
	text := new(Text) // which sees one packet after the other
	for _, tt := range []struct {
		name, hex string
		link      uint16
		want      string
	}{
		{
			"arp", "ffffffffffff0242ac1f0003" + "0806" + "0001080006040001" + "0242ac1f0003" + "ac1f0003" + "000000000000" + "ac1f0002", 1,
			"ARP, Request who-has 172.31.0.2 tell 172.31.0.3, length 28",
		},
		{
			"arp reply", "ffffffffffff0242ac1f0002" + "0806" + "0001080006040002" + "0242ac1f0002" + "ac1f0002" + "0242ac1f0003" + "ac1f0003", 1,
			"ARP, Reply 172.31.0.2 is-at 02:42:ac:1f:00:02, length 28",
		},
		{
			"syn", ethernetIPv4 + "4500003c00004000400600000a5b00030a5b0002" + "a028" + "0050" + "00000064" + "00000000" + "a002faf0" + "00000000" +
				"020405b40402080a000000010000000001030307", 1,
			"IP 10.91.0.3.41000 > 10.91.0.2.80: Flags [S], seq 100, win 64240, options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7], length 0",
		},
		{
			"syn ack", ethernetIPv4 + "4500002800004000400600000a5b00020a5b0003" + "0050" + "a028" + "000001f4" + "00000065" + "5012faf0" + "00000000", 1,
			"IP 10.91.0.2.80 > 10.91.0.3.41000: Flags [S.], seq 500, ack 1, win 64240, length 0",
		},
		{
			"data", ethernetIPv4 + "4500003a00004000400600000a5b00030a5b0002" + "a028" + "0050" + "00000065" + "000001f5" + "5018faf0" + "00000000" +
				hex.EncodeToString([]byte("GET / HTTP/1.1\r\n\r\n")), 1,
			"IP 10.91.0.3.41000 > 10.91.0.2.80: Flags [P.], seq 1:19, ack 1, win 64240, length 18: HTTP: GET / HTTP/1.1",
		},
		{
			"evil", ethernetIPv4 + "4500003e00004000400600000a5b00030a5b0002" + "a029" + "0050" + "00000065" + "000001f5" + "5018faf0" + "00000000" +
				hex.EncodeToString([]byte("GET /\x1b[2J\x07 HTTP/1.1\r")), 1,
			`IP 10.91.0.3.41001 > 10.91.0.2.80: Flags [P.], seq 101:123, ack 501, win 64240, length 22: HTTP: GET /\x1b[2J\a HTTP/1.1\r`,
		},
		{
			"dns", ethernetIPv4 + "45000030000040004011" + "00000a5b000308080808" + "d431" + "0035" + "001c0000" +
				"04d2" + "0100" + "0001000000000000" + "02646200" + "0001" + "0001", 1,
			"IP 10.91.0.3.54321 > 8.8.8.8.53: 1234+ A? db. (20)",
		},
		{
			"dns answer", ethernetIPv4 + "45000000000040004011" + "0000080808080a5b0003" + "0035" + "d431" + "002c0000" +
				"04d2" + "8180" + "0001000100000000" + "02646200" + "0001" + "0001" + "c00c" + "0001" + "0001" + "0000003c" + "0004" + "0a5b0002", 1,
			"IP 8.8.8.8.53 > 10.91.0.3.54321: 1234 A? db. -> A 10.91.0.2 (36)",
		},
		{
			"dns error", ethernetIPv4 + "45000000000040004011" + "0000080808080a5b0003" + "0035" + "d431" + "001c0000" +
				"04d2" + "8183" + "0001000000000000" + "02646200" + "0001" + "0001", 1,
			"IP 8.8.8.8.53 > 10.91.0.3.54321: 1234 NameError A? db. -> nothing (20)",
		},
		{
			"udp", ethernetIPv4 + "45000020000040004011" + "00000a5b00030a5b0002" + "d431" + "0063" + "000c0000" + "61626364", 1,
			"IP 10.91.0.3.54321 > 10.91.0.2.99: UDP, length 4",
		},
		{
			"refused", ethernetIPv4 + "45000038000040004001" + "00000a5b00020a5b0003" + "0303" + "0000" + "00000000" +
				"45000020000040004011" + "00000a5b00030a5b0002" + "d431" + "0063" + "000c0000", 1,
			"IP 10.91.0.2 > 10.91.0.3: ICMP port unreachable for udp 10.91.0.2.99, length 36",
		},
		{
			"ping6", "60000000" + "0008" + "3a" + "40" + "fd000000000000000000000000000003" + "fd000000000000000000000000000002" + "8000000000010002", 101,
			"IP6 fd00::3 > fd00::2: ICMP6, echo request, id 1, seq 2, length 8",
		},
		{
			"neighbor", "60000000" + "0018" + "3a" + "ff" + "fe800000000000000000000000000003" + "ff0200000000000000000001ff000002" + "8700000000000000" +
				"fd000000000000000000000000000002", 101,
			"IP6 fe80::3 > ff02::1:ff00:2: ICMP6, neighbor solicitation, who has fd00::2, length 24",
		},
		{"vlan", "0242ac1f00020242ac1f0003" + "8100" + "0005" + "88cc" + "00", 1, "vlan 5, 02:42:ac:1f:00:03 > 02:42:ac:1f:00:02, ethertype 0x88cc, length 1"},
		{"cut", ethernetIPv4 + "45", 1, "IP, cut short"},
		{"fragment", ethernetIPv4 + "450000300000000140060000" + "0a5b00030a5b0002" + "00000000", 1, "IP 10.91.0.3 > 10.91.0.2: fragment at 8, length 28"},
	} {
		b, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := text.Line(tt.link, &Packet{Length: len(b), Data: b}); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestFullIsHarmless has an interface whose name the kernel takes, and a terminal too.
func TestFullIsHarmless(t *testing.T) {
	p := &Packet{Time: time.Unix(1, 0), Data: []byte{0x45}}
	got := new(Text).Full(Interface{Name: "\x1b[2Je\a", LinkType: 101}, p)
	if want := p.Time.Local().Format("15:04:05.000000") + ` \x1b[2Je\a In  IP, cut short`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzRead(f *testing.F) {
	var file bytes.Buffer
	w := NewWriter(&file, "test")
	_, _ = w.Interface(Interface{Name: "lo", LinkType: 1})
	b, _ := hex.DecodeString(ethernetIPv4 + "4500003c00004000400600000a5b00030a5b0002" + "a02800500000006400000000a002faf000000000020405b40402080a000000010000000001030307")
	_ = w.Packet(Packet{Time: time.Unix(1, 2), Length: len(b), Data: b})
	_ = w.Statistics(time.Unix(1, 3), Statistics{Received: 1})
	f.Add(file.Bytes())
	f.Fuzz(func(_ *testing.T, b []byte) { _ = readAll(b) })
}

func FuzzText(f *testing.F) {
	b, _ := hex.DecodeString(ethernetIPv4 + "4500003c00004000400600000a5b00030a5b0002" + "a02800500000006400000000a002faf000000000020405b40402080a000000010000000001030307")
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, link := range []uint16{1, 101} {
			for _, r := range new(Text).Line(link, &Packet{Length: len(b), Data: b}) {
				if r < ' ' || r >= 0x7f {
					t.Fatalf("%q moves the cursor", r)
				}
			}
		}
	})
}
