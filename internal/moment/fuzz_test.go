package moment

import (
	"testing"
	"time"
)

// FuzzParse sees that a time that was understood is the same when it is written down in full.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"10m", "-1h", "0", "2026-11-29", "2026-11-29T13:00", "2026-11-29T13:00:00.123456789+01:00", "1764421200", "1764421200.5", "1.0000000000001", "-1.9", "9223372036854775807", "1e3", "."} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse(text, now)
		if err != nil || got.Year() < 0 || got.Year() > 9999 { // what RFC 3339 cannot say
			return
		}
		again, err := Parse(got.Format(time.RFC3339Nano), now)
		if err != nil || !again.Equal(got) {
			t.Errorf("Parse(%q) = %v, and that is %v, %v", text, got, again, err)
		}
	})
}
