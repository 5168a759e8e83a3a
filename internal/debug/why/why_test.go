package why

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/record/blackbox"
	"github.com/portholehq/porthole/internal/record/death"
)

// remembered is a source that knows of deaths alone, or of one container that
// does not run.
type remembered struct {
	Source

	deaths []*death.Record
	sub    *engine.Subject
}

func (r *remembered) Subject(ref string) (engine.Subject, error) {
	if r.sub == nil || ref != r.sub.Name && ref != r.sub.ID {
		return engine.Subject{}, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	return *r.sub, nil
}

func (r *remembered) Deaths(engine.DeathsOptions) ([]*death.Record, error) { return r.deaths, nil }

func (r *remembered) LookIntoFiles(context.Context, string, func(engine.OpenFiles)) error {
	return errdefs.ErrUnavailable.WithMessage("busy")
}

// ended is the record of a run that somebody is asked about.
func ended(exit death.Exit, change func(*death.Record)) *death.Record {
	now := time.Now()
	d := &death.Record{Container: "id", Name: "web", Run: 1, Started: now.Add(-time.Minute), Finished: now, Exit: exit}
	d.Exit.Observed = true
	if change != nil {
		change(d)
	}
	d.Cause = death.Judge(d)
	return d
}

func said(lines ...string) func(*death.Record) {
	return func(d *death.Record) {
		for _, l := range lines {
			d.LastLines = append(d.LastLines, death.Line{Stream: "stderr", Text: []byte(l)})
		}
	}
}

// refused is a run in which calls were.
func refused(r *death.Rights, list ...death.Denial) func(*death.Record) {
	return func(d *death.Record) { d.Rights, d.Denials = r, list }
}

func TestExplainTheDead(t *testing.T) {
	uid := uint32(7)
	killedBy := death.Exit{Signal: syscall.SIGKILL, Code: 137}
	stop := &death.Stop{Action: "stop", Signal: syscall.SIGTERM, Timeout: 3 * time.Second, TimedOut: true, By: &event.Origin{UID: &uid, Command: []string{"docker", "stop", "web"}}}
	tests := []struct {
		name       string
		death      *death.Record
		cause      string
		confidence string
		text       string // in the verdict, evidence included
		unknown    string
	}{
		{"by itself", ended(death.Exit{Code: 4}, said("x")), "exited", api.Certain, "code 4", ""},
		{"by itself and silent", ended(death.Exit{Code: 4}, nil), "exited", api.Certain, "code 4", "written nothing"},
		{"a shell tells of a signal", ended(death.Exit{Code: 139}, said("x")), "exited", api.Certain, "a child that SIGSEGV ended", ""},
		{"core", ended(death.Exit{Signal: syscall.SIGABRT, Code: 134, Core: true}, nil), "crashed", api.Certain, "the kernel dumped its core", ""},
		{"core in a file", ended(death.Exit{Signal: syscall.SIGABRT, Code: 134, Core: true}, func(d *death.Record) {
			d.Core = &death.Core{Path: "/srv/core.1", Bytes: 3 << 20}
		}), "crashed", api.Certain, "/srv/core.1 of its own files, 3MiB", ""},
		{"core with the host's handler", ended(death.Exit{Signal: syscall.SIGABRT, Code: 134, Core: true}, func(d *death.Record) {
			d.Core = &death.Core{Handler: "|/usr/lib/systemd/systemd-coredump %P"}
		}), "crashed", api.Certain, "to the host's handler, |/usr/lib/systemd/systemd-coredump", ""},
		{"no core", ended(death.Exit{Signal: syscall.SIGSEGV, Code: 139}, nil), "crashed", api.Certain, "no core dump", ""},
		{"killed by nobody knows whom", ended(killedBy, nil), "killed-from-outside", api.Certain, "SIGKILL ended it", "which process sent SIGKILL"},
		{"killed by somebody", ended(killedBy, func(d *death.Record) {
			d.Sender = &death.Sender{PID: 9, UID: 3, Command: "reaper", Source: "tracepoint"}
		}), "killed-from-outside", api.Certain, "process 9 (reaper) of uid 3 of the host sent it SIGKILL", ""},
		{"killed by a process inside", ended(killedBy, func(d *death.Record) {
			d.Sender = &death.Sender{PID: 9, Inside: 4, Command: "sh", Container: d.Container, ContainerName: "web", Source: "tracepoint"}
		}), "killed-from-inside", api.Certain, "in container web, pid 4 there, which is this one, sent it SIGKILL", ""},
		{"killed by itself", ended(killedBy, func(d *death.Record) { d.Sender = &death.Sender{PID: 9, Itself: true, Source: "tracepoint"} }), "killed-itself", api.Certain, "to itself", ""},
		{"ended by itself when asked to", ended(death.Exit{Code: 0}, func(d *death.Record) {
			d.Sender = &death.Sender{PID: 9, Command: "kill 5", Signal: syscall.SIGTERM, Source: "tracepoint"}
		}), "completed", api.Certain, "it got SIGTERM: process 9 (kill 5)", ""},
		{"a call that seccomp refused", ended(death.Exit{Code: 1}, refused(&death.Rights{}, death.Denial{Program: "unshare", Call: "unshare", Args: "(CLONE_NEWNS)", Errno: "EPERM", Seccomp: true})), "call-refused", api.Likely, "its seccomp profile refuses with EPERM: it needs CAP_SYS_ADMIN", ""},
		{"a call that no capability lets through", ended(death.Exit{Code: 1}, refused(&death.Rights{}, death.Denial{Program: "x", Call: "keyctl", Errno: "EPERM", Seccomp: true})), "call-refused", api.Likely, "x called keyctl", ""},
		{"a call that the kernel refused", ended(death.Exit{Code: 1}, refused(&death.Rights{CapDrop: []string{"CHOWN"}}, death.Denial{Program: "x", Call: "chown", Errno: "EPERM"})), "call-refused", api.Likely, "it needs CAP_CHOWN", ""},
		{"a call that an AppArmor profile refused", ended(death.Exit{Code: 1}, refused(&death.Rights{AppArmor: "mine"}, death.Denial{Program: "x", Call: "mount", Errno: "EACCES"})), "call-refused", api.Likely, "x called mount, which its AppArmor profile mine refuses with EACCES", ""},
		{"a mount that no profile refused", ended(death.Exit{Code: 1}, refused(&death.Rights{}, death.Denial{Program: "x", Call: "mount", Errno: "EACCES"})), "exited", api.Certain, "code 1", ""},
		{"a capability that does not reach so far", ended(death.Exit{Code: 1}, refused(&death.Rights{}, death.Denial{Program: "x", Call: "chown", Errno: "EPERM"})), "call-refused", api.Likely, "CAP_CHOWN outside of the container's user namespace", ""},
		{"an unknown call is no reason", ended(death.Exit{Code: 1}, refused(&death.Rights{}, death.Denial{Program: "x", Call: "syscall_0x270f", Errno: "ENOSYS", Seccomp: true})), "exited", api.Certain, "code 1", ""},
		{"a file that may not be read is another's matter", ended(death.Exit{Code: 1}, refused(&death.Rights{}, death.Denial{Program: "x", Call: "openat", Errno: "EACCES"})), "exited", api.Certain, "code 1", ""},
		{"a low port", ended(death.Exit{Code: 1}, refused(&death.Rights{CapDrop: []string{"ALL"}}, death.Denial{Program: "x", Call: "bind", Args: `(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("0.0.0.0")}, 16)`, Errno: "EACCES"})), "call-refused", api.Likely, "it needs CAP_NET_BIND_SERVICE", ""},
		{"a socket in a directory of another's", ended(death.Exit{Code: 1}, refused(&death.Rights{}, death.Denial{Program: "x", Call: "bind", Args: `(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 110)`, Errno: "EACCES"})), "exited", api.Certain, "code 1", ""},
		{"refused, and well", ended(death.Exit{}, refused(&death.Rights{}, death.Denial{Program: "x", Call: "unshare", Errno: "EPERM", Seccomp: true})), "completed", api.Certain, "", ""},
		{"memory, and the log is lost", ended(killedBy, func(d *death.Record) { d.OOMCount = 2 }), "oom", api.Likely, "the kernel counted 2 kills", "its log"},
		{"memory of a group around it", ended(killedBy, func(d *death.Record) {
			d.OOMKills = []death.OOMKill{{Task: "java", PID: 5, RSS: 1 << 20, Whose: death.OuterLimit, Group: "/pods", Limit: 1 << 30, First: true}}
		}), "oom", api.Certain, "the limit of 1GiB of group /pods", "not recorded"},
		{"signal ignored", ended(killedBy, func(d *death.Record) {
			d.Stop, d.Signals = stop, &death.SignalMasks{Ignored: 1 << (syscall.SIGTERM - 1)}
		}), "term-ignored", api.Certain, `uid 7, with "docker stop web" asked for stop`, ""},
		{"no handler", ended(killedBy, func(d *death.Record) { d.Stop, d.Signals = stop, &death.SignalMasks{} }), "term-ignored", api.Certain, "SIGTERM was ignored, KILL after 3 s: pid 1 has no handler", ""},
		{"handlers not known", ended(killedBy, func(d *death.Record) { d.Stop = stop }), "term-ignored", api.Certain, "SIGTERM did not end it", "is not recorded"},
		{"library", ended(death.Exit{Code: 127}, said("app: error while loading shared libraries: libz.so.1: cannot open shared object file")), "missing-library", api.Certain, "libz.so.1", ""},
		{"words of the last run count, not those of a crash", ended(death.Exit{Signal: syscall.SIGSEGV, Code: 139}, said("x: Permission denied")), "crashed", api.Certain, "", ""},
		{"words of success are none", ended(death.Exit{}, said("/x: Permission denied")), "completed", api.Certain, "", ""},
		{"denied, and removed", ended(death.Exit{Code: 1}, said("touch: /data/x: Permission denied")), "permission-denied", api.Likely, "/data/x", "the container was removed"},
		{"denied what is not said", ended(death.Exit{Code: 1}, said("Permission denied")), "permission-denied", api.Possible, "denied something", "which path"},
		{"name", ended(death.Exit{Code: 1}, said("curl: (6) Could not resolve host: api.test")), "name-unresolved", api.Likely, "api.test", ""},
		{"processes", ended(death.Exit{Code: 1}, said("sh: can't fork: Resource temporarily unavailable")), "out-of-pids", api.Likely, "no further process", "no limit of its own"},
		{"start without a finding", ended(death.Exit{Code: 128}, func(d *death.Record) {
			d.StartError = &death.StartError{Step: "mount /x", Message: "no such thing"}
		}), "start-failed", api.Certain, "no such thing", "tell nothing"},
		{"start with a finding", ended(death.Exit{Code: 127}, func(d *death.Record) {
			d.StartError = &death.StartError{Message: "exec /run", Finding: &death.Finding{Kind: "crlf", Path: "/run", Line: 1, Text: "CR", Fix: "sed"}}
		}), "crlf", api.Certain, "/run, line 1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, err := Explain(t.Context(), &remembered{deaths: []*death.Record{tt.death}}, Options{Container: "web"})
			if err != nil {
				t.Fatal(err)
			}
			if len(w.Verdicts) != 1 {
				t.Fatalf("verdicts %+v, want one", w.Verdicts)
			}
			v := w.Verdicts[0]
			all := v.Text + "\n" + strings.Join(v.Evidence, "\n")
			if v.Cause != tt.cause || v.Confidence != tt.confidence || !strings.Contains(all, tt.text) {
				t.Errorf("verdict %+v, want %s (%s) %q", v, tt.cause, tt.confidence, tt.text)
			}
			if unknown := strings.Join(w.Unknown, "\n"); !strings.Contains(unknown, tt.unknown) {
				t.Errorf("not known: %q, want %q", unknown, tt.unknown)
			}
			if w.Status != removed || w.Summary == "" {
				t.Errorf("status %q, summary %q", w.Status, w.Summary)
			}
		})
	}
}

func TestRunsWithoutRecords(t *testing.T) {
	now := time.Now()
	sub := &engine.Subject{Container: &state.Container{ID: "id", Name: "web", Config: &container.Config{}, HostConfig: &container.HostConfig{}}, Status: container.StateExited}
	sub.HostConfig.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 2}
	for i, code := range []int{1, 2, 3} {
		sub.Life.Runs = append(sub.Life.Runs, state.Run{Number: i + 1, StartedAt: now.Add(-time.Second), FinishedAt: now, ExitCode: code})
	}
	sub.Life.Run = 3
	src := &remembered{sub: sub}
	w, err := Explain(t.Context(), src, Options{Container: "web", History: true})
	if err != nil {
		t.Fatal(err)
	}
	var causes []string
	for _, v := range w.Verdicts {
		causes = append(causes, v.Cause)
	}
	if !slices.Equal(causes, []string{"crash-loop", "exited"}) || !strings.Contains(w.Verdicts[0].Text, "codes 1, 2, 3") {
		t.Errorf("verdicts %+v", w.Verdicts)
	}
	if len(w.History) != 3 || *w.History[1].ExitCode != 2 {
		t.Errorf("history %+v", w.History)
	}
	if w, err = Explain(t.Context(), src, Options{Container: "web", Run: 2}); err != nil || !strings.Contains(w.Verdicts[len(w.Verdicts)-1].Text, "code 2") {
		t.Errorf("run 2: %+v, %v", w, err)
	}
	for _, o := range []Options{{Container: "nosuch"}, {Container: "web", Run: 9}} {
		if _, err := Explain(t.Context(), src, o); !errdefs.IsNotFound(err) {
			t.Errorf("Explain(%+v) = %v, want not found", o, err)
		}
	}
}

// TestNameOfAnother holds that a host's name is not taken for the beginning of an id.
func TestNameOfAnother(t *testing.T) {
	other := &engine.Subject{Container: &state.Container{ID: "db", Name: "other"}, Status: container.StateExited}
	src := &remembered{sub: other, deaths: []*death.Record{ended(death.Exit{Code: 6}, said("curl: (6) Could not resolve host: db"))}}
	w, err := Explain(t.Context(), src, Options{Container: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(w.Verdicts[0].Evidence, "\n"); !strings.Contains(got, "no container of that name") {
		t.Errorf("evidence %q", got)
	}
}

func TestProcessorTime(t *testing.T) {
	sub := &engine.Subject{Container: &state.Container{ID: "id", Name: "web", Config: &container.Config{}, HostConfig: &container.HostConfig{}}, Status: container.StateExited}
	sub.Life.Run = 1
	sub.HostConfig.Ulimits = []*container.Ulimit{{Name: "nofile", Hard: 9, Soft: 9}, {Name: "cpu", Hard: 2, Soft: 1}}
	src := &remembered{sub: sub, deaths: []*death.Record{ended(death.Exit{Signal: 9, Code: 137}, nil)}}
	w, err := Explain(t.Context(), src, Options{Container: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if v := w.Verdicts[0]; v.Cause != "out-of-cpu-time" || v.Confidence != api.Likely || !strings.Contains(v.Text, "2 s") {
		t.Errorf("verdict %+v", v)
	}
}

// TestBlackBoxNotes: a run that failed is told of with its last failed call, by the kernel's time of its end; one that
// ended well is not.
func TestBlackBoxNotes(t *testing.T) {
	end := time.Unix(100, 0)
	call := blackbox.Call{Time: end.Add(-5 * time.Millisecond), Took: int64(2 * time.Millisecond), PID: 1, Program: "app", Call: "openat", Args: `(AT_FDCWD, "/etc/app.conf")`, Errno: "ENOENT"}
	child := call
	child.PID, child.Program = 7, "sh"
	for _, tt := range []struct {
		name string
		d    death.Record
		want []string
	}{
		{"none", death.Record{Cause: death.Failed}, nil},
		{"ended well", death.Record{Cause: death.Completed, Box: &blackbox.Summary{Failed: []blackbox.Call{call}}}, nil},
		{
			"failed",
			death.Record{Name: "x", Run: 2, Cause: death.Failed, Finished: end.Add(time.Second), Box: &blackbox.Summary{Ended: end, Kept: 3, Seen: 9, Failed: []blackbox.Call{child, call}}},
			[]string{`its last failed call: openat(AT_FDCWD, "/etc/app.conf") = ENOENT, 3ms before its end`, "its black box has kept 3 of 9 events: porthole trace --run 2 x"},
		},
		{
			"of a child, late",
			death.Record{Name: "x", Run: 1, Cause: death.Killed, Finished: end, Box: &blackbox.Summary{Late: true, Since: end, Failed: []blackbox.Call{child}}},
			[]string{
				`its last failed call: openat(AT_FDCWD, "/etc/app.conf") = ENOENT, 3ms before its end, by process 7 (sh)`,
				"of its calls those before " + end.Local().Format(time.TimeOnly) + ", under an earlier daemon, are not known",
				"its black box has kept 0 of 0 events: porthole trace --run 1 x",
			},
		},
	} {
		if diff := cmp.Diff(tt.want, boxNotes(&tt.d)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
