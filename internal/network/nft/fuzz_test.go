package nft

import (
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// FuzzTrace reads events of the firewall.
func FuzzTrace(f *testing.F) {
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.NFTA_TRACE_TABLE, "porthole")
	ae.String(unix.NFTA_TRACE_CHAIN, "forward")
	ae.Bytes(unix.NFTA_TRACE_RULE_HANDLE, []byte{0, 0, 0, 0, 0, 0, 0, 7})
	ae.Bytes(unix.NFTA_TRACE_TYPE, []byte{0, 0, 0, traceRule})
	ae.Nested(unix.NFTA_TRACE_VERDICT, func(in *netlink.AttributeEncoder) error {
		in.Bytes(unix.NFTA_VERDICT_CODE, []byte{0, 0, 0, drop})
		return nil
	})
	ae.Bytes(unix.NFTA_TRACE_TRANSPORT_HEADER, []byte{0, 80, 1, 2})
	b, err := ae.Encode()
	if err != nil {
		f.Fatal(err)
	}
	good := append([]byte{unix.NFPROTO_INET, 0, 0, 0}, b...)
	f.Add(good)
	f.Add(good[:len(good)-2])
	f.Add([]byte{2, 0, 0, 0, 4, 0, 1, 0})
	f.Add([]byte{2})
	kind := netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_TRACE)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, ok := parseTrace(netlink.Message{Header: netlink.Header{Type: kind}, Data: data})
		if ok && (e.table == "" || len(e.table)+len(e.chain) > len(data)) {
			t.Errorf("%+v out of %d bytes", e, len(data))
		}
		_ = e.dropped()
	})
	if e, ok := parseTrace(netlink.Message{Header: netlink.Header{Type: kind}, Data: good}); !ok || !e.dropped() || e.table != "porthole" || e.src != 80 {
		f.Errorf("the good one is %+v, %v", e, ok)
	}
}
