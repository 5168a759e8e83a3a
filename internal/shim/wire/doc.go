// Package wire is the protocol spoken with a shim: frames, messages, and the
// client's side of the conversation.
//
// Two conversations use the same frames. The daemon talks to a shim over a
// unix stream socket (Dial, Client.Call, Client.Events); the shim talks to the
// stage that it forked over a socket pair (NewStageConn, the Stage messages).
// Both may pass file descriptors with any frame.
//
//	 0               4       5               8
//	+---------------+-------+---------------+----------------------+------------------+
//	| length uint32 | kind  | zero          | JSON                 | 0x00 | payload   |
//	| little endian | uint8 |               |                      | (both optional)  |
//	+---------------+-------+---------------+----------------------+------------------+
//	  ^ descriptors ride here (SCM_RIGHTS)   <-------------- length ----------------->
//
// JSON never holds a raw NUL, so the first one ends it. The payload carries
// what must not be parsed on the way: the compiled plan, which the shim hands
// to the stage without looking inside.
//
// The whole protocol is drawn in docs/design/shim-protocol.md. What the server
// does with the methods is in package shim; what a plan holds is known to
// packages runtime/plan and runtime/stage only.
package wire
