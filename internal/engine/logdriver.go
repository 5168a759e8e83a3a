package engine

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/logship"
	"github.com/portholehq/porthole/internal/problem"
)

// Our own log is always kept, whatever the driver is called; but for none, which keeps nothing. The drivers json-file
// and local stand for it alone. With syslog and journald the daemon sends on what is in it.
const (
	driverNone     = "none"
	driverJSONFile = "json-file"
	driverLocal    = "local"
	driverSyslog   = "syslog"
	driverJournald = "journald"
)

// logDrivers are the names that may be asked for.
var logDrivers = []string{driverJournald, driverJSONFile, driverLocal, driverNone, driverSyslog}

// mergeOption is ours: both streams go through one pipe, and keep their order.
const mergeOption = "merge-streams"

var (
	localOptions = []string{"max-size", "max-file", "compress"}
	extraOptions = []string{"labels", "labels-regex", "env", "env-regex", "tag"}
	// cacheOptions are Docker's for the local copy of what a driver sends away. Here the copy cannot be switched off: it
	// is what the driver reads from.
	cacheOptions = []string{"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
)

// takesOption tells whether a driver has a log option, as Docker decides it.
func takesOption(driver, key string) bool {
	switch key {
	case "mode", "max-buffer-size", mergeOption:
		return true
	}
	lists := [][]string{cacheOptions}
	switch driver {
	case driverJSONFile:
		lists = append(lists, localOptions, extraOptions)
	case driverLocal:
		lists = append(lists, localOptions)
	case driverSyslog:
		lists = append(lists, extraOptions, logship.SyslogOptions)
	case driverJournald:
		lists = append(lists, extraOptions)
	}
	return slices.ContainsFunc(lists, func(l []string) bool { return slices.Contains(l, key) })
}

// CheckLogConfig refuses settings of the daemon that no container could be logged with.
func CheckLogConfig(c container.LogConfig) error {
	_, err := logOptions(c)
	if err == nil && c.Type == driverSyslog {
		_, err = logship.ParseSyslog(&logship.Info{Config: c.Config, ContainerID: strings.Repeat("0", 64)})
	}
	if err != nil {
		return fmt.Errorf("failed to set log opts: %w", err)
	}
	return nil
}

// withLogDefaults returns a container's log settings with those of the daemon where it says nothing: the options of the
// daemon are for its own driver.
func withLogDefaults(c, daemon container.LogConfig) container.LogConfig {
	if daemon.Type == "" {
		daemon.Type = driverJSONFile
	}
	if c.Type == "" {
		c.Type = daemon.Type
	}
	if c.Type == daemon.Type && len(daemon.Config) > 0 {
		all := maps.Clone(daemon.Config)
		maps.Copy(all, c.Config)
		c.Config = all
	}
	return c
}

// logOptions reads a container's log options, so far as they concern our own log.
func logOptions(c container.LogConfig) (crilog.Options, error) {
	var o crilog.Options
	driver := c.Type
	switch {
	case driver == "":
		driver = driverJSONFile
	case driver == driverNone:
		return crilog.Options{Disabled: true}, nil
	case !slices.Contains(logDrivers, driver):
		err := invalid("logger: no log driver named '%s' is registered", driver)
		return o, problem.WithHint(err, "the log drivers are "+strings.Join(logDrivers, ", ")+"; whatever the driver, porthole logs reads a local copy")
	}
	if len(c.Config) > 0 {
		o = o.WithDefaults()
	}
	for _, key := range slices.Sorted(maps.Keys(c.Config)) {
		if !takesOption(driver, key) {
			if driver == driverLocal {
				return o, invalid("unknown log opt '%s' for log driver %s", key, driver)
			}
			return o, invalid("unknown log opt '%s' for %s log driver", key, driver)
		}
		if err := logOption(&o, c.Config, key); err != nil {
			return o, err
		}
	}
	return o, nil
}

func logOption(o *crilog.Options, all map[string]string, key string) error {
	value := all[key]
	switch strings.TrimPrefix(key, "cache-") {
	case "max-size":
		if value == "-1" {
			o.MaxSize = -1
			return nil
		}
		n, err := units.FromHumanSize(value)
		if err != nil || n <= 0 {
			return invalid("invalid value for %s: %s", key, value)
		}
		o.MaxSize = n
	case "max-file":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return invalid("%s cannot be less than 1", key)
		}
		o.MaxFiles = n
	case "compress":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return invalid("invalid value for %s: %s", key, value)
		}
		o.Compress = b
	case mergeOption:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return invalid("invalid value for %s: %s", key, value)
		}
		o.Merge = b
	case "mode":
		// In neither mode does a container wait for a log system.
		if value != "" && value != "blocking" && value != "non-blocking" {
			return invalid("logger: logging mode not supported: %s", value)
		}
	case "max-buffer-size":
		if all["mode"] != "non-blocking" {
			return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
		}
		if _, err := units.RAMInBytes(value); err != nil {
			return invalid("error parsing option max-buffer-size: %v", err)
		}
	case "tag":
		if err := logship.CheckTag(value); err != nil {
			return invalid("failed to initialize logging driver: %v", err)
		}
	}
	return nil
}

// logInfo is what drivers and details may show of a container.
func logInfo(rec *state.Container) *logship.Info {
	return &logship.Info{
		Config: rec.HostConfig.LogConfig.Config, ContainerID: rec.ID, ContainerName: "/" + rec.Name, ContainerEntrypoint: rec.Path,
		ContainerArgs: rec.Args, ContainerImageID: rec.ImageID, ContainerImageName: rec.Config.Image, ContainerCreated: rec.Created,
		ContainerEnv: rec.Config.Env, ContainerLabels: rec.Config.Labels, DaemonName: "docker",
	}
}

// logDetails is what `logs --details` shows of a container, from its log options labels, env and tag.
func logDetails(v *view) (string, error) {
	info := logInfo(v.Container)
	extra, err := info.Extra(nil)
	if err != nil {
		return "", err
	}
	tag, err := info.Tag("")
	if err != nil {
		return "", err
	}
	if tag != "" {
		extra["tag"] = tag
	}
	var parts []string
	for key, value := range extra {
		parts = append(parts, url.QueryEscape(key)+"="+url.QueryEscape(value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ","), nil
}

// logTarget is where a driver sends a log.
type logTarget interface {
	// Check tells whether there is anything to connect to, as far as this host can tell at once.
	Check() error
	Open(ctx context.Context) (logship.Sink, error)
}

// logTarget is nil for drivers that send nothing away.
func (e *Engine) logTarget(rec *state.Container) (logTarget, error) {
	switch rec.HostConfig.LogConfig.Type {
	case driverSyslog:
		s, err := logship.ParseSyslog(logInfo(rec))
		if err != nil {
			return nil, invalid("%v", err)
		}
		return s, nil
	case driverJournald:
		socket := e.config.JournalSocket
		if socket == "" {
			socket = logship.JournalSocket
		}
		j, err := logship.ParseJournal(logInfo(rec), socket)
		if err != nil {
			return nil, invalid("%v", err)
		}
		return j, nil
	}
	return nil, nil
}

// checkLogging refuses log options that cannot work.
func (e *Engine) checkLogging(rec *state.Container) error {
	if _, err := logOptions(rec.HostConfig.LogConfig); err != nil {
		return err
	}
	if rec.HostConfig.LogConfig.Type != driverNone {
		if _, err := logInfo(rec).Extra(nil); err != nil {
			return invalid("%v", err)
		}
	}
	_, err := e.logTarget(rec)
	return err
}

// loggingFor returns how a run is logged. What its driver sends to must be there.
func (e *Engine) loggingFor(v *view) (crilog.Options, error) {
	o, err := logOptions(v.HostConfig.LogConfig)
	if err != nil {
		return o, err
	}
	o.Run = v.Life.Run + 1
	target, err := e.logTarget(v.Container)
	if err == nil && target != nil {
		err = target.Check()
	}
	if err != nil {
		return o, internal("failed to initialize logging driver: %v", err)
	}
	return o, nil
}

const (
	// shipDrain is how long the removal of a container waits for the end of its log to be sent; it does not wait for a
	// log system that has been away for shipOutage. It looks every shipLook.
	shipDrain  = 3 * time.Second
	shipOutage = 300 * time.Millisecond
	shipLook   = 50 * time.Millisecond
)

// shipping is the sending of one container's log, over all its runs.
type shipping struct {
	*logship.Shipment
	driver string
	ended  chan struct{} // closed when the log will grow no more
	cancel context.CancelFunc
	done   chan struct{}
}

// startShipping begins to send a container's log, if its driver does so and nobody is at it.
func (e *Engine) startShipping(c *ctr) {
	rec := c.view().Container
	target, err := e.logTarget(rec)
	if err != nil {
		e.log.Error("log is not sent", "container", c.id, "err", err)
	}
	if err != nil || target == nil {
		return
	}
	e.shipMu.Lock()
	defer e.shipMu.Unlock()
	if e.ships[c.id] != nil {
		return
	}
	ctx, cancel := context.WithCancel(e.life)
	s := &shipping{driver: rec.HostConfig.LogConfig.Type, ended: make(chan struct{}), cancel: cancel, done: make(chan struct{})}
	s.Shipment = &logship.Shipment{
		Open: target.Open, Cursor: e.dir(c.id, "log.sent"), Logger: e.log.With("container", c.id, "driver", s.driver),
		Read: func(ctx context.Context, after uint64, fn func(logship.Entry) error) error {
			return readToShip(ctx, e.logDir(c.id), after, s.ended, fn)
		},
	}
	e.ships[c.id] = s
	e.goWork(func() {
		defer close(s.done)
		defer cancel()
		s.Run(ctx)
	})
}

func readToShip(ctx context.Context, dir string, after uint64, ended <-chan struct{}, fn func(logship.Entry) error) error {
	o := crilog.ReadOptions{Stdout: true, Stderr: true, Tail: -1, After: after, Follow: true, Whole: true, Positions: true, Unpack: unpackLog}
	return crilog.Read(ctx, dir, o, ended, func(entry crilog.Entry) error {
		line, whole := entry.Line, true
		if n := len(line); n > 0 && line[n-1] == '\n' {
			line = line[:n-1]
		} else {
			whole = n == 0 || entry.Number > after // the last line of a run has no newline
		}
		m := logship.Message{Time: entry.Time, Stderr: entry.Stream == crilog.Stderr, Line: line, Partial: !whole}
		after = max(after, entry.Number)
		return fn(logship.Entry{Message: m, Number: entry.Number, Dropped: entry.Dropped, Parts: entry.Parts})
	})
}

// finishShipping sends the rest of a log that is about to be removed, for a while.
func (e *Engine) finishShipping(id string) {
	e.shipMu.Lock()
	s := e.ships[id]
	delete(e.ships, id)
	e.shipMu.Unlock()
	if s == nil {
		return
	}
	close(s.ended)
	if !s.drained() {
		e.log.Warn("end of a log was not sent before its container was removed", "container", id, "driver", s.driver, "err", s.Status().Err)
	}
	s.cancel()
	<-s.done
}

// drained waits until all is sent; false: it does not look as if it ever will.
func (s *shipping) drained() bool {
	tick := time.NewTicker(shipLook)
	defer tick.Stop()
	for end := time.Now().Add(shipDrain); time.Now().Before(end); {
		select {
		case <-s.done:
			return true
		case <-tick.C:
		}
		if since := s.Status().Since; !since.IsZero() && time.Since(since) > shipOutage {
			return false
		}
	}
	return false
}

// LogShipment shows how the sending of a container's log does.
type LogShipment struct {
	Container string `json:"container"`
	Driver    string `json:"driver"`
	logship.Status
}

func (e *Engine) logShipments() []LogShipment {
	e.shipMu.Lock()
	defer e.shipMu.Unlock()
	list := make([]LogShipment, 0, len(e.ships))
	for id, s := range e.ships {
		list = append(list, LogShipment{Container: id, Driver: s.driver, Status: s.Status()})
	}
	slices.SortFunc(list, func(a, b LogShipment) int { return strings.Compare(a.Container, b.Container) })
	return list
}
