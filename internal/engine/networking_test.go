package engine

import (
	"context"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mobynet "github.com/moby/moby/api/types/network"
)

// networks are those that a container is on: as its record says, and as the network knows.
func (w *world) networks(ref string) (saved, there []string) {
	w.t.Helper()
	v, err := w.viewOf(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, ep := range w.network.Endpoints(v.ID) {
		there = append(there, ep.Network)
	}
	slices.Sort(there)
	return slices.Sorted(maps.Keys(v.Networks)), there
}

func (w *world) wantNetworks(ref string, want ...string) {
	w.t.Helper()
	saved, there := w.networks(ref)
	if diff := cmp.Diff(want, saved); diff != "" {
		w.t.Errorf("networks of the record (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, there); diff != "" {
		w.t.Errorf("networks that it is on (-want +got):\n%s", diff)
	}
}

// names are the networks on which a container was last told to have names.
func (w *world) names() (list []string) {
	w.network.mu.Lock()
	defer w.network.mu.Unlock()
	for _, n := range w.network.served[len(w.network.served)-1].Networks {
		list = append(list, n.Network)
	}
	return list
}

// TestFailedConnectIsUndone has no hosts file to write to.
func TestFailedConnectIsUndone(t *testing.T) {
	w := newWorld(t)
	w.network.own["app"] = true
	id := w.create("run", nil, "sleep")
	w.start(id)
	v, err := w.viewOf(id)
	if err != nil {
		t.Fatal(err)
	}
	hosts := w.files(v).Hosts
	if err := os.Rename(hosts, hosts+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(hosts, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := w.NetworkConnect(t.Context(), "app", mobynet.ConnectRequest{Container: "run"}); err == nil {
		t.Fatal("connected")
	}
	w.wantNetworks("run", "bridge")
	if list := w.names(); len(list) != 0 {
		t.Errorf("it still has names on %v", list)
	}
}

// TestConnectThatWasNotSaved has a daemon that died between the two.
func TestConnectThatWasNotSaved(t *testing.T) {
	w := newWorld(t)
	w.network.own["app"] = true
	w.start(w.create("run", nil, "sleep"))
	w.close()
	w.network.also["app"] = true
	w.open()
	w.wantNetworks("run", "bridge")
	if list := w.names(); len(list) != 0 {
		t.Errorf("it still has names on %v", list)
	}
}

// TestDisconnectThatWasNotSaved has a daemon that died between the two.
func TestDisconnectThatWasNotSaved(t *testing.T) {
	w := newWorld(t)
	w.network.own["app"] = true
	w.start(w.create("run", nil, "sleep"))
	if err := w.NetworkConnect(t.Context(), "app", mobynet.ConnectRequest{Container: "run"}); err != nil {
		t.Fatal(err)
	}
	w.wantNetworks("run", "app", "bridge")
	w.close()
	delete(w.network.also, "app")
	w.open()
	if err := w.NetworkDisconnect(t.Context(), "app", mobynet.DisconnectRequest{Container: "run"}); err != nil {
		t.Error(err)
	}
	w.wantNetworks("run", "bridge")
}

// TestDisconnectAwaitsAdoption: who is not taken up yet runs all the same.
func TestDisconnectAwaitsAdoption(t *testing.T) {
	w := newWorld(t)
	w.network.own["app"] = true
	id := w.create("run", nil, "sleep")
	w.start(id)
	if err := w.NetworkConnect(t.Context(), "app", mobynet.ConnectRequest{Container: "run"}); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.runtime.hang(id)
	w.openUnsettled()
	hasty, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := w.NetworkDisconnect(hasty, "app", mobynet.DisconnectRequest{Container: "run"}); err == nil {
		t.Error("a container that nobody could reach was disconnected")
	}
	w.runtime.hang("")
	if err := w.NetworkDisconnect(t.Context(), "app", mobynet.DisconnectRequest{Container: "run"}); err != nil {
		t.Error(err)
	}
	w.wantNetworks("run", "bridge")
}
