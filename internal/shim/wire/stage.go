package wire

// The conversation between a shim and the stage it forked, in order. The
// stage's end of the socket pair is its descriptor 3.
//
//	shim                                   stage
//	 |-- plan (payload: plan; its files) --> |
//	 |                                       | arranges mounts, ...
//	 | <-------------- pty (file: master) -- |  with a terminal only
//	 | <------------------------- ready --- |
//	 |-- go ------------------------------> |
//	 |                                       | drops rights
//	 | <------------- timings ([]Step) ----- |  the last word before exec
//	 | <------------------- end of stream -- |  close-on-exec: exec succeeded
//
// At any point the stage may send failed (body: Error) and exit. An end of
// stream without timings before it means that the stage died; timings, then
// failed, means that exec itself was refused.
//
// In exec mode the first file that comes with the plan is the container's
// mount namespace; the plan's own files follow it.
//
// Standard input, output and error of the future process are the stage's
// descriptors 0, 1 and 2. Without a terminal the stage gives them to the user
// whom it becomes (fchown), because /dev/stdout is opened by its owner's
// rights.
const (
	StagePlan    = "plan"
	StagePTY     = "pty"
	StageReady   = "ready"
	StageGo      = "go"
	StageTimings = "timings"
	StageFailed  = "failed"
)

// StageFD is the descriptor at which a stage finds its end of the socket pair.
const StageFD = 3
