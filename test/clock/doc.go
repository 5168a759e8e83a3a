// Package clock sets the machine's clock below a running engine, forward and back, and sees that nothing waits, ends or is
// removed for it. It belongs into a machine whose clock is nobody else's: that of test/uml, which runs it.
package clock
