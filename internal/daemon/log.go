package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// levelFatal is above error: only what ends the daemon is logged.
const levelFatal = slog.Level(12)

func parseLevel(text string) (slog.Level, error) {
	switch strings.ToLower(text) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	case "fatal":
		return levelFatal, nil
	}
	return 0, fmt.Errorf("invalid logging level: %s", text)
}

// Level is what c asks to be logged: all in debug mode.
func (c *Config) Level() slog.Level {
	if c.Debug {
		return slog.LevelDebug
	}
	level, err := parseLevel(c.LogLevel)
	if err != nil {
		return slog.LevelInfo
	}
	return level
}

// NewLogger returns the daemon's logger. level may change later.
func NewLogger(w io.Writer, format string, level *slog.LevelVar) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: lowerLevel}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// lowerLevel writes levels as the settings name them.
func lowerLevel(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.LevelKey && len(groups) == 0 {
		if level, ok := a.Value.Any().(slog.Level); ok {
			a.Value = slog.StringValue(strings.ToLower(level.String()))
		}
	}
	return a
}
