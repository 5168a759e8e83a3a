package moment

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	zone := time.FixedZone("there", 2*60*60)
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, zone)
	for text, want := range map[string]time.Time{
		"10m":                            now.Add(-10 * time.Minute),
		"0s":                             now,
		"-1h":                            now.Add(time.Hour),
		"1500000000":                     time.Unix(1500000000, 0),
		"1500000000.25":                  time.Unix(1500000000, 250_000_000),
		"0":                              time.Unix(0, 0),
		"2025-03-04":                     time.Date(2025, 3, 4, 0, 0, 0, 0, zone),
		"2025-03-04Z":                    time.Date(2025, 3, 4, 0, 0, 0, 0, time.UTC),
		"2025-03-04T05":                  time.Date(2025, 3, 4, 5, 0, 0, 0, zone),
		"2025-03-04T05:06":               time.Date(2025, 3, 4, 5, 6, 0, 0, zone),
		"2025-03-04T05:06:07":            time.Date(2025, 3, 4, 5, 6, 7, 0, zone),
		"2025-03-04T05:06:07.5":          time.Date(2025, 3, 4, 5, 6, 7, 500_000_000, zone),
		"2025-03-04T05:06:07.5+01:00":    time.Date(2025, 3, 4, 4, 6, 7, 500_000_000, time.UTC),
		"2025-03-04T05:06:07.123456789Z": time.Date(2025, 3, 4, 5, 6, 7, 123_456_789, time.UTC),
	} {
		if got, err := Parse(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "1.x", "1.-2", "2025-13-01", "1h2"} {
		if got, err := Parse(text, now); err == nil || err.Error() != `failed to parse value as time or duration: "`+text+`"` {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}
