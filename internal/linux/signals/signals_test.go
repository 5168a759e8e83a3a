package signals_test

import (
	"syscall"
	"testing"

	"github.com/portholehq/porthole/internal/linux/signals"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  syscall.Signal
		error string
	}{
		{"TERM", syscall.SIGTERM, ""},
		{"SIGTERM", syscall.SIGTERM, ""},
		{"sigkill", syscall.SIGKILL, ""},
		{"15", syscall.SIGTERM, ""},
		{"RTMIN+3", 37, ""},
		{"1", syscall.SIGHUP, ""},
		{"64", signals.Last, ""},
		{"0", 0, "invalid signal: 0"},
		{"NOPE", 0, "invalid signal: NOPE"},
		{"", 0, "invalid signal: "},
		{"65", 0, "the linux daemon does not support signal 65"},
		{"65536", 0, "the linux daemon does not support signal 65536"},
		{"-9", 0, "the linux daemon does not support signal -9"},
	} {
		got, err := signals.Parse(c.text)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if got != c.want || message != c.error {
			t.Errorf("%q: %d, %q, want %d, %q", c.text, got, message, c.want, c.error)
		}
	}
}
