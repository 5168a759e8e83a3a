// Package moment reads the times that people give to filters.
package moment

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// layouts are RFC 3339 and its beginnings. Without a zone the time is local.
var layouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
	"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02",
}

// Parse reads a moment as Docker's filters take it: a duration before now, RFC
// 3339 or its beginning, or seconds since 1970 with an optional fraction. The
// error has Docker's words.
func Parse(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && text != "0" {
		return now.Add(-d), nil
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	failed := fmt.Errorf("failed to parse value as time or duration: %q", text)
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, failed
	}
	nano, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, failed
	}
	return time.Unix(seconds, nano), nil
}
