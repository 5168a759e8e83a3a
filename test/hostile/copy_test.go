package hostile

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ask makes a request of the API. The status is 0 when the daemon has refused it before it had read the body, and the
// answer was lost with the rest of that.
func ask(t *testing.T, method, path string, body io.Reader, header map[string]string) (int, []byte) {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", daemon.Socket)
	}, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(t.Context(), settling)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://porthole"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range header {
		req.Header.Set(key, value)
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if body != nil && (errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)) {
		return 0, nil
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // an archive that breaks off is cut off
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, data
}

// packed makes an archive of files that have their name as content.
func packed(t *testing.T, heads ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range heads {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestCopyRace is CVE-2018-15664 and CVE-2019-14271's kin: while files go in and out, a process in the container
// exchanges a directory on the way for a link to one of the host, as fast as it can.
func TestCopyRace(t *testing.T) {
	begin(t)
	dir, secret := outside(t)
	start(t, "racer", "busybox", "sh", "-c", "mkdir -p /x/dir/sub /x/in && echo inside >/x/dir/f && ln -s "+dir+" /x/link && ln -s ../../../../../../../../../.."+dir+" /x/in/link && mkdir /x/in/sub && sleep 1000")
	porthole(t, "exec", "-d", "racer", "/attack/attack", "swap", "/x/dir", "/x/link")
	porthole(t, "exec", "-d", "racer", "/attack/attack", "swap", "/x/in/sub", "/x/in/link")
	archive := func(path string) string { return "/containers/racer/archive?path=" + url.QueryEscape(path) }

	attack(t, "out of the container", func(t *testing.T) {
		inside, missed := 0, 0
		for began := time.Now(); racing(began, inside > 0 && missed > 0); {
			for _, path := range []string{"/x/dir/f", "/x/dir/", "/x/dir/.", "/x"} {
				code, data := ask(t, http.MethodGet, archive(path), nil, nil)
				switch {
				case bytes.Contains(data, []byte(secret)):
					t.Fatalf("%s: got what is in %s", path, dir)
				case code == http.StatusOK && bytes.Contains(data, []byte("inside\n")):
					inside++
				default:
					missed++
				}
			}
		}
		if inside == 0 || missed == 0 {
			t.Errorf("the directory was met %d times and the link %d: there was no race", inside, missed)
		}
	})
	attack(t, "into the container", func(t *testing.T) {
		var heads []tar.Header
		for i := range 20 {
			heads = append(heads, tar.Header{Name: fmt.Sprintf("sub/planted%d", i), Typeflag: tar.TypeReg}, tar.Header{Name: "other", Typeflag: tar.TypeReg})
		}
		done, refused := 0, 0
		for began := time.Now(); racing(began, done > 0 && refused > 0); {
			for path, heads := range map[string][]tar.Header{"/x/in": heads, "/x/dir": {{Name: "planted", Typeflag: tar.TypeReg}}} {
				code, _ := ask(t, http.MethodPut, archive(path), packed(t, heads...), nil)
				if code == http.StatusOK {
					done++
				} else {
					refused++
				}
			}
			if found, err := filepath.Glob(filepath.Join(dir, "planted*")); err != nil || len(found) > 0 {
				t.Fatalf("the host got %q, %v", found, err)
			}
		}
		if done == 0 || refused == 0 {
			t.Errorf("%d archives were unpacked and %d refused: there was no race", done, refused)
		}
	})
}

// TestCopyToHost: what comes out of a container as an archive leads nowhere but into the directory that was named. The
// archive of a hostile engine is internal/cli/copytar's.
func TestCopyToHost(t *testing.T) {
	begin(t)
	dir, _ := outside(t)
	target := filepath.Join(daemon.Dir, "target")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(target)
	start(t, "source", "busybox", "sh", "-c", "mkdir -p /x/d && ln -s "+dir+" /x/d/link && sleep 1000")
	attack(t, "through a link that was copied before", func(t *testing.T) {
		porthole(t, "cp", "source:/x/d", target)
		if to, err := os.Readlink(filepath.Join(target, "d", "link")); err != nil || to != dir {
			t.Fatalf("the link was copied as %q, %v", to, err)
		}
		porthole(t, "exec", "source", "sh", "-c", "rm /x/d/link && mkdir /x/d/link && echo planted >/x/d/link/planted")
		out, err := try(t, "cp", "source:/x/d", target)
		if _, statErr := os.Lstat(filepath.Join(dir, "planted")); statErr == nil {
			t.Fatalf("the host got it: %q, %v", out, err)
		}
		if err == nil {
			if _, err := os.Lstat(filepath.Join(target, "d", "link", "planted")); err != nil {
				t.Errorf("it is nowhere: %q, %v", out, err)
			}
		}
	})
}

// TestAccounts: a container's /etc/passwd and /etc/group are whatever it likes, and everything that asks for a user ends.
func TestAccounts(t *testing.T) {
	begin(t)
	for what, make := range map[string]string{
		"pipe that is held open": "mkfifo /etc/passwd /etc/group && exec 3<>/etc/passwd 4<>/etc/group",
		"pipe without end":       "mkfifo /etc/passwd /etc/group && { yes x:x:1000:1000::/: >/etc/passwd & yes x:x:1000: >/etc/group & }",
		"links in a circle":      "ln -s passwd /etc/passwd; ln -s /etc/passwd /etc/group",
		"memory of the kernel":   "ln -s /proc/kcore /etc/passwd; ln -s /dev/zero /etc/group",
		"huge":                   "truncate -s 1T /etc/passwd; truncate -s 1T /etc/group",
		"directories":            "mkdir /etc/passwd /etc/group",
	} {
		attack(t, what, func(t *testing.T) {
			name := "accounts-" + strings.ReplaceAll(what, " ", "-")
			start(t, name, "-u", "0", "busybox", "sh", "-c", "rm /etc/passwd /etc/group; "+make+"; : >/ready; sleep 1000")
			awaitReady(t, name)
			before := memory(t)
			for _, args := range [][]string{
				{"exec", "-u", "x", name, "true"}, {"exec", "-u", "1000", name, "true"}, {"top", name}, {"ps", "--tree"}, {"why", name}, {"files", name}, {"inspect", "--isolation", name},
			} {
				_, _ = try(t, args...) // which fails the test if it does not end
			}
			// The user is looked up for an archive when the client asks for that.
			code, answer := ask(t, http.MethodPut, "/containers/"+name+"/archive?copyUIDGID=1&path=/tmp", packed(t, tar.Header{Name: "f", Typeflag: tar.TypeReg}), nil)
			if code >= http.StatusInternalServerError {
				t.Errorf("archive for the user: %d %s", code, answer)
			}
			if grown := memory(t) - before; grown > 200<<10 {
				t.Errorf("the daemon has taken %d KB more", grown)
			}
		})
	}
}

// memory is the most that the daemon has had in memory, in KB.
func memory(t *testing.T) (peak int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", daemon.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	if _, err := fmt.Sscan(rest, &peak); err != nil {
		t.Fatal(err)
	}
	return peak
}
