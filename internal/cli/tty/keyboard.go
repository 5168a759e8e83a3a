package tty

import "io"

// Keyboard returns a reader of standard input that reads nothing ahead of its
// caller, and from which a blocked Read returns io.EOF when stop is closed: what
// is typed afterwards is left for the next reader. That matters where several
// read in turn, as a prompt, a shell and an editor.
func (t *Terminal) Keyboard(stop <-chan struct{}) io.Reader { return &keyboard{t: t, stop: stop} }

type keyboard struct {
	t    *Terminal
	stop <-chan struct{}
}

// Read reads what was typed.
func (k *keyboard) Read(p []byte) (int, error) {
	if k.t.in.isTerminal && !waitReadable(k.t.in.fd, k.stop) {
		return 0, io.EOF
	}
	return k.t.In.Read(p)
}
