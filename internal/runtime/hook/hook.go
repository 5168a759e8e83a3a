// Package hook runs the programs that an OCI document names to be run at points of a
// container's life.
//
// The ones for the runtime's namespaces are run by whoever creates, starts or deletes
// the container, those for the container's by its stage: [Orders] is how they get there.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Hook is one program to run. It is a part of config.json's hooks as the runtime
// specification has it, in a form that a stage reads without the rest of the document.
type Hook struct {
	// Path is absolute, in the mount namespace and below the root of whoever runs it.
	Path string `json:"path"`
	// Args begins with the program's name; empty: it is Path.
	Args []string `json:"args,omitempty"`
	// Env is all that the program gets of an environment.
	Env []string `json:"env,omitempty"`
	// Timeout is in seconds; nil: there is none.
	Timeout *int `json:"timeout,omitempty"`
}

// Orders are hooks to be run, one after the other, each with the container's state on
// its standard input.
type Orders struct {
	// Kind is their name in config.json: "createContainer".
	Kind  string          `json:"kind"`
	Hooks []Hook          `json:"hooks,omitempty"`
	State json.RawMessage `json:"state,omitempty"`
}

// Check says what is wrong with hooks before any of them is run.
func Check(kind string, hooks []Hook) error {
	for i, h := range hooks {
		switch {
		case !filepath.IsAbs(h.Path):
			return fmt.Errorf("hooks.%s[%d]: path %q is not absolute", kind, i, h.Path)
		case h.Timeout != nil && *h.Timeout <= 0:
			return fmt.Errorf("hooks.%s[%d]: timeout %d is not greater than zero", kind, i, *h.Timeout)
		}
	}
	return nil
}

// Run runs the hooks in order and stops at the first that fails.
func (o *Orders) Run() error {
	for i := range o.Hooks {
		if err := o.RunOne(i); err != nil {
			return err
		}
	}
	return nil
}

// outputMost bounds what is kept of what a hook writes, for the error.
const outputMost = 4 << 10

// grace is how long a hook's output is waited for when the hook itself has ended and
// somebody else holds it open.
const grace = 100 * time.Millisecond

// RunOne runs one hook. It is forked by the calling thread, in whose namespaces and
// with whose rights it runs.
func (o *Orders) RunOne(i int) error {
	h := o.Hooks[i]
	ctx := context.Background()
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	out := &tail{most: outputMost}
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...) // nil would be this process's
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(o.State), out, out, grace
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it took longer than %d s", *h.Timeout)
	}
	if text := strings.TrimSpace(out.String()); text != "" {
		return fmt.Errorf("%s hook %d (%s): %w: %s", o.Kind, i, h.Path, err, text)
	}
	return fmt.Errorf("%s hook %d (%s): %w", o.Kind, i, h.Path, err)
}

// tail keeps the last bytes of what is written to it.
type tail struct {
	most int
	buf  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.most; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string { return string(t.buf) }
