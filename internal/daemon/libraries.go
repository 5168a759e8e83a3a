package daemon

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// RedirectLogrus sends what libraries write by logrus to log, one level lower:
// what is an error to a library is for the daemon to judge, who gets it as a
// returned error too. It is for the whole process.
func RedirectLogrus(log *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.DebugLevel)
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(libraryHook{log})
}

type libraryHook struct{ log *slog.Logger }

func (libraryHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h libraryHook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	switch e.Level {
	case logrus.PanicLevel, logrus.FatalLevel:
		level = slog.LevelError
	case logrus.ErrorLevel:
		level = slog.LevelWarn
	case logrus.WarnLevel:
		level = slog.LevelInfo
	case logrus.InfoLevel, logrus.DebugLevel, logrus.TraceLevel:
	}
	// The content store says so at each start on a filesystem without verity.
	if e.Message == "failed check for fsverity support" {
		level = slog.LevelDebug
	}
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	if !h.log.Enabled(ctx, level) {
		return nil
	}
	var attrs []slog.Attr
	for key, value := range e.Data {
		attrs = append(attrs, slog.Any(key, value))
	}
	h.log.LogAttrs(ctx, level, "library", append(attrs, slog.String("text", e.Message))...)
	return nil
}
