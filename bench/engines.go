package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/test/bed"
)

// An engine is a daemon with its command line.
type engine struct {
	name    string
	program string
	// buildkit is the command line that builds by BuildKit's own protocol: the same
	// for both, as Docker's does that by a plugin.
	buildkit string
	host     string
	home     string
	// path is where the programs are looked for.
	path string
	pid  int
	// shims is how its processes beside containers are called.
	shims string
	// helpers are further processes that the engine needs, by their names.
	helpers []string
	// start starts the daemon, which must not be running, and returns its pid,
	// perhaps before it answers.
	start func() (int, error)
	// end ends the daemon by a signal and waits for it.
	end func(unix.Signal) error
	// stop ends the daemon for good and clears away what is left.
	stop func()
}

// command returns a command line, not started.
func (e *engine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.program, args...)
	// It ends by ctx alone: a terminal's ^C is not for what clears away.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Env = []string{"DOCKER_HOST=" + e.host, "HOME=" + e.home, "PATH=" + e.path, "DOCKER_CLI_HINTS=false", "DOCKER_BUILDKIT=0"}
	return cmd
}

// cli runs a command line and returns its output.
func (e *engine) cli(ctx context.Context, args ...string) (string, error) {
	cmd := e.command(ctx, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", e.name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// quiet runs a command line whose output goes nowhere.
func (e *engine) quiet(ctx context.Context, args ...string) error {
	cmd := e.command(ctx, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", e.name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

func startPorthole(ctx context.Context, dir, images string) (*engine, error) {
	d, err := bed.Start(bed.Options{Dir: dir, Quiet: true})
	if err != nil {
		return nil, err
	}
	e := &engine{
		name: "porthole", program: d.Program("porthole"), buildkit: d.Program("porthole"), host: d.Host(), home: dir,
		path: os.Getenv("PATH"), pid: d.Pid(), shims: "porthole-shim", helpers: []string{"porthole-forker", "porthole-keeper"},
		start: func() (int, error) {
			err := d.Start()
			return d.Pid(), err
		},
		end: func(sig unix.Signal) error {
			if sig == unix.SIGKILL {
				return d.Kill()
			}
			return d.Stop()
		},
		stop: func() {
			if err := d.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		},
	}
	if err := e.quiet(ctx, "load", "-q", "-i", filepath.Join(images, "busybox_latest.tar")); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return e, nil
}

// answered is when the daemon first gives a list with n containers that run. It asks
// without a command line, as that of Docker takes longer than ours to come up.
func (e *engine) answered(ctx context.Context, n int) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the daemon does not answer"))
	defer cancel()
	client := e.client()
	for {
		var list []struct{} // of those that run
		err := ask(ctx, client, "/containers/json", &list)
		if err == nil && len(list) == n {
			return time.Now(), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, errors.Join(fmt.Errorf("%s: %w: %d containers run, want %d", e.name, context.Cause(ctx), len(list), n), err)
		case <-time.After(time.Millisecond):
		}
	}
}

// client returns a client for the engine's socket, with a connection for each request.
func (e *engine) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(e.host, "unix://"))
		},
	}}
}

// ask puts a daemon's answer to a GET into v.
func ask(ctx context.Context, client *http.Client, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// processes returns the pids of processes called name, cut to 15 bytes as the
// kernel does.
func processes(name string) (pids []int, err error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", d.Name(), "comm"))
		if err == nil && strings.TrimSpace(string(comm)) == name[:min(len(name), 15)] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// memory returns, in MiB, a process's memory that is its alone, and its
// resident memory.
func memory(pid int) (private, rss float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		kib, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "Private_Clean:", "Private_Dirty:":
			private += kib / 1024
		case "Rss:":
			rss += kib / 1024
		}
	}
	if rss == 0 {
		err = errors.New("smaps_rollup tells nothing")
	}
	return private, rss, err
}
