package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// create starts the stage of the container's first process and returns when it
// has arranged everything and waits.
func (s *Server) create(c *call) (any, error) {
	var spec wire.StartSpec
	if err := c.decode(&spec); err != nil {
		return nil, err
	}
	at, err := c.birth(spec)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	defer at.close()
	if err := s.reserve(); err != nil {
		return nil, err
	}
	out, stdio, err := s.prepareOutput(spec)
	s.mu.Lock()
	s.out, s.spec, s.reserved = out, spec, false
	s.mu.Unlock()
	if err != nil {
		s.forgetFirst(nil)
		return nil, err
	}
	p, err := s.launch(wire.Init, spec.Args, at)
	if err != nil {
		closeFiles(stdio[:])
		s.forgetFirst(out)
		return nil, err
	}
	s.mu.Lock()
	s.first = p
	s.mu.Unlock()
	pty, err := p.prepare(c.payload, stdio, c.files)
	closeFiles(stdio[:]) // the stage has them; the pipes must have an end
	if err == nil && spec.Terminal && pty == nil {
		err = &wire.Error{Step: "pty", Message: "pty: the stage opened no terminal"}
	}
	if err == nil {
		err = out.begin(pty, spec.Size)
	}
	if err != nil {
		s.abandon(p)
		s.forgetFirst(out)
		return nil, err
	}
	s.move(p, created)
	return wire.Created{PID: p.pid}, nil
}

// reserve makes sure that there is one first process, and one writer of the log.
func (s *Server) reserve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != nil || s.exit != nil || s.reserved {
		return &wire.Error{Step: "create", Errno: syscall.EEXIST, Message: "create: the container was created already"}
	}
	s.reserved = true
	return nil
}

// prepareOutput opens the log and makes the descriptors that become the
// process's 0, 1 and 2. The caller closes those. Without error the output is
// not nil.
func (s *Server) prepareOutput(spec wire.StartSpec) (*output, [3]*os.File, error) {
	var stdio [3]*os.File
	log, err := crilog.OpenWriter(s.cfg.LogDir, spec.Log)
	if err != nil {
		return nil, stdio, err
	}
	out := newOutput(log, spec, s.note)
	stdio, err = out.makeStdio()
	if err != nil {
		out.discard()
		return nil, stdio, err
	}
	return out, stdio, nil
}

// forgetFirst makes the server as if create had not been called.
func (s *Server) forgetFirst(out *output) {
	if out != nil {
		out.discard()
	}
	s.mu.Lock()
	s.out, s.first, s.spec = nil, nil, wire.StartSpec{}
	s.mu.Unlock()
}

// birth takes what a StartSpec says of files from the call.
func (c *call) birth(spec wire.StartSpec) (birth, error) {
	at := birth{flags: spec.CloneFlags}
	var err error
	if at.cgroup, err = c.takeOne(spec.IntoCgroup); err != nil {
		return birth{}, err
	}
	if at.pidns, err = c.takeOne(spec.JoinPID); err != nil {
		at.close()
		return birth{}, err
	}
	return at, nil
}

// launch takes a stage that was forked early, or forks one, and starts to watch
// it.
func (s *Server) launch(id string, args []string, at birth) (*process, error) {
	s.mu.Lock()
	if _, taken := s.procs[id]; taken || s.ending {
		s.mu.Unlock()
		return nil, &wire.Error{Errno: syscall.EEXIST, Message: fmt.Sprintf("process %q: exists", id)}
	}
	s.procs[id] = nil // taken; nobody finds a process yet
	s.mu.Unlock()
	p, err := s.stage(at)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.procs, id)
		return nil, err
	}
	p.id, p.args = id, args
	s.procs[id] = p
	s.wg.Go(func() { s.watch(p) })
	return p, nil
}

// abandon ends a process that never became the user's and waits until it is
// gone.
func (s *Server) abandon(p *process) {
	_ = p.signal(syscall.SIGKILL) // unless it has ended by itself
	<-p.exited
	s.mu.Lock()
	p.status = failed
	delete(s.procs, p.id)
	s.settle(p)
	s.mu.Unlock()
	close(p.told)
}

// move sets a status that leads on.
func (s *Server) move(p *process, to status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.status = to
	s.settle(p)
}

// settle closes p.settled once p's status cannot change any more.
func (s *Server) settle(p *process) {
	if p.status == created {
		select {
		case <-p.exited: // died while it waited for go
			p.status = failed
		default:
			return
		}
	}
	if p.status != running && p.status != failed {
		return
	}
	select {
	case <-p.settled:
	default:
		close(p.settled)
		p.stage.Close()
	}
}

// goOn lets a created process become the user's program.
func (s *Server) goOn(c *call) (any, error) {
	var ref wire.ProcessRef
	if err := c.decode(&ref); err != nil {
		return nil, err
	}
	p, err := s.process(ref.Process)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if p.status != created {
		s.mu.Unlock()
		return nil, &wire.Error{Step: "go", Errno: syscall.EINVAL, Message: fmt.Sprintf("process %q: is not waiting to be started", p.id)}
	}
	p.status = going
	s.mu.Unlock()

	steps, err := p.release()
	if err != nil {
		s.abandon(p)
		if out, outErr := s.output(); outErr == nil && p.id == wire.Init {
			s.forgetFirst(out)
		}
		return nil, err
	}
	began := time.Now()
	started := wire.Started{StartedAt: began.UTC(), Steps: steps}
	s.mu.Lock()
	p.status, p.began, p.startedAt, p.steps = running, began, started.StartedAt, steps
	s.settle(p)
	s.mu.Unlock()
	c.after = func(bool) {
		close(p.told)
		if p.id == wire.Init {
			spareThreads(spare)
		}
	}
	return started, nil
}

// watch follows one process to its end and tells about it.
func (s *Server) watch(p *process) {
	if p.id == wire.Init {
		s.makeRoom(p)
	}
	<-p.exited
	s.mu.Lock()
	s.settle(p)
	s.mu.Unlock()
	<-p.settled
	s.mu.Lock()
	started := p.status == running
	if started {
		p.exit.Ran = max(p.over.Sub(p.began), 1) // 0 is for those who do not tell it
	}
	_, listed := s.procs[p.id]
	listed = listed && s.procs[p.id] == p
	first := s.first == p
	s.mu.Unlock()
	if !listed {
		return // abandoned: the answer to create, exec or go has told it
	}
	if started {
		<-p.told
	}
	if first && started {
		s.finish(p)
		return
	}
	s.mu.Lock()
	delete(s.procs, p.id)
	if started {
		s.remember(p.ended())
	}
	s.mu.Unlock()
	if out, err := s.output(); err == nil && first {
		s.forgetFirst(out)
	}
	s.broadcast(wire.EventExited, wire.Exited{Process: p.id, Exit: p.exit})
	s.endIfDone()
}

// makeRoom has the end of a process that was started kept on a full disk, and
// tells the next daemon that it has begun, should this one and the shim be killed
// before that is saved. It is nothing that the start has to wait for.
func (s *Server) makeRoom(p *process) {
	select {
	case <-p.told:
	case <-p.exited:
		return
	}
	s.mu.Lock()
	started, run := p.status == running, s.spec.Log.Run
	s.mu.Unlock()
	if !started {
		return
	}
	if err := makeExitRoom(s.cfg.StateDir, run); err != nil {
		s.note(err)
	}
}

// endedMost bounds what is remembered of one exec that has ended.
const endedMost = 4 << 10

// ended is what is remembered of an exec. Server.mu is held.
func (p *process) ended() wire.Exited {
	e := wire.Exited{Process: p.id, Exit: p.exit}
	size := len(p.note)
	for _, arg := range p.args {
		size += len(arg)
	}
	if size <= endedMost {
		e.Args, e.Note = p.args, p.note
	}
	return e
}

func (s *Server) remember(e wire.Exited) {
	if len(s.exits) >= rememberedExits {
		s.exits = append(s.exits[:0], s.exits[1:]...)
	}
	s.exits = append(s.exits, e)
}

// finish writes down all that is left of the container's first process, then
// tells. Clients that are slow get the rest of the output afterwards.
func (s *Server) finish(p *process) {
	s.hold()
	defer s.release()
	out, err := s.output()
	if err != nil {
		s.note(err)
		return
	}
	out.drain()
	out.closeLog()
	// A daemon that is told keeps the exit in its own state, and need not wait
	// for the disk.
	durable := onDisk
	if s.isHeard() {
		durable = untilPowerFails
	}
	record, err := writeExit(s.cfg.StateDir, p.exit, durable)
	if err != nil {
		s.note(err)
	}
	defer record.Close() // nil is fine
	failpoint.Pass("shim.recorded")
	s.mu.Lock()
	s.exit = &p.exit
	delete(s.procs, p.id)
	s.mu.Unlock()
	heard := s.broadcast(wire.EventExited, wire.Exited{Process: p.id, Exit: p.exit}) > 0
	if !heard && record != nil && durable != onDisk {
		if err := unix.Fdatasync(int(record.Fd())); err != nil {
			s.note(fmt.Errorf("sync exit record: %w", err))
		}
	}
	out.finish()
	if !heard && record == nil {
		s.keepExit(p.exit)
	}
}

// exitRetry is how often an exit record is tried again that the disk did not take.
const exitRetry = time.Second

// keepExit stays for an exit that nobody was told and that could not be written, until it is on the disk or a daemon has asked for it.
func (s *Server) keepExit(e wire.Exit) {
	tick := time.NewTicker(exitRetry)
	defer tick.Stop()
	for {
		select {
		case <-s.exitAsked:
			return
		case <-s.quit:
			return
		case <-tick.C:
		}
		if record, err := writeExit(s.cfg.StateDir, e, onDisk); err == nil {
			record.Close()
			return
		}
	}
}

func decode(raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, v)
}
