package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// The names of the sets and maps, see the package's introduction.
const (
	setBridges  = "bridges"
	setInternal = "internal"
	setOpen4    = "open4"
	setOpen6    = "open6"
	setSame     = "same"
	setRouted4  = "routed4"
	setRouted6  = "routed6"
	mapAny4     = "any4"
	mapAny6     = "any6"
	mapAddr4    = "addr4"
	mapAddr6    = "addr6"
)

// sets are the sets and maps of a table, without their elements.
func sets(t *nftables.Table) []*nftables.Set {
	concat := func(types ...nftables.SetDatatype) nftables.SetDatatype {
		return nftables.MustConcatSetType(types...)
	}
	name, proto, port := nftables.TypeIFName, nftables.TypeInetProto, nftables.TypeInetService
	v4, v6 := nftables.TypeIPAddr, nftables.TypeIP6Addr
	target4, target6 := concat(v4, port), concat(v6, port)
	return []*nftables.Set{
		{Table: t, Name: setBridges, KeyType: name, KeyByteOrder: binaryutil.NativeEndian},
		{Table: t, Name: setInternal, KeyType: name, KeyByteOrder: binaryutil.NativeEndian},
		{Table: t, Name: setOpen4, KeyType: name, KeyByteOrder: binaryutil.NativeEndian},
		{Table: t, Name: setOpen6, KeyType: name, KeyByteOrder: binaryutil.NativeEndian},
		{Table: t, Name: setSame, KeyType: concat(name, name), Concatenation: true},
		{Table: t, Name: setRouted4, KeyType: concat(v4, proto, port), Concatenation: true},
		{Table: t, Name: setRouted6, KeyType: concat(v6, proto, port), Concatenation: true},
		{Table: t, Name: mapAny4, IsMap: true, KeyType: concat(proto, port), DataType: target4, Concatenation: true},
		{Table: t, Name: mapAny6, IsMap: true, KeyType: concat(proto, port), DataType: target6, Concatenation: true},
		{Table: t, Name: mapAddr4, IsMap: true, KeyType: concat(v4, proto, port), DataType: target4, Concatenation: true},
		{Table: t, Name: mapAddr6, IsMap: true, KeyType: concat(v6, proto, port), DataType: target6, Concatenation: true},
	}
}

// elements are those that r puts into a set.
func elements(s *nftables.Set, r Ruleset) []nftables.SetElement {
	var list []nftables.SetElement
	for _, n := range r.Networks {
		name := ifName(n.Bridge)
		key := name
		switch {
		case s.Name == setBridges, s.Name == setInternal && n.Internal, s.Name == setOpen4 && n.Open4, s.Name == setOpen6 && n.Open6:
		case s.Name == setSame:
			key = append(name[:len(name):len(name)], name...)
		default:
			continue
		}
		list = append(list, nftables.SetElement{Key: key})
	}
	for _, p := range r.Ports {
		if p.set() == s.Name {
			list = append(list, p.element())
		}
	}
	return list
}

// eachSet calls fn with each set of t that ports belong to and their elements.
func eachSet(t *nftables.Table, ports []Port, fn func(*nftables.Set, []nftables.SetElement) error) error {
	for _, s := range sets(t) {
		var list []nftables.SetElement
		for _, p := range ports {
			if p.set() == s.Name {
				list = append(list, p.element())
			}
		}
		if len(list) == 0 {
			continue
		}
		if err := fn(s, list); err != nil {
			return err
		}
	}
	return nil
}

// set is the name of the set that a port is an element of.
func (p Port) set() string {
	name := [2]string{mapAny4, mapAny6}
	switch {
	case p.Routed:
		name = [2]string{setRouted4, setRouted6}
	case !p.Host.Addr().IsUnspecified():
		name = [2]string{mapAddr4, mapAddr6}
	}
	if p.Target.Addr().Is4() {
		return name[0]
	}
	return name[1]
}

func (p Port) element() nftables.SetElement {
	if p.Routed {
		return nftables.SetElement{Key: concatKey(p.Target.Addr(), p.Proto, p.Target.Port())}
	}
	val := append(p.Target.Addr().AsSlice(), word16(p.Target.Port())...)
	if p.Host.Addr().IsUnspecified() {
		return nftables.SetElement{Key: append([]byte{p.Proto, 0, 0, 0}, word16(p.Host.Port())...), Val: val}
	}
	return nftables.SetElement{Key: concatKey(p.Host.Addr(), p.Proto, p.Host.Port()), Val: val}
}

// concatKey is ADDRESS . PROTOCOL . PORT: each part is filled up to 32 bits.
func concatKey(a netip.Addr, proto uint8, port uint16) []byte {
	return append(append(a.AsSlice(), proto, 0, 0, 0), word16(port)...)
}

// word16 is a port in the first half of a 32 bit register.
func word16(port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, port), 0, 0)
}

// ifName is an interface's name as the kernel compares it.
func ifName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
