// Package hostile attacks the engine in ways that other engines fell to, and
// some more. Each test is one known class, named by its advisory where it has
// one. It shows that the attack fails, and fails for the reason that is
// intended: what would make it impossible for another reason, as a missing
// program, fails the test as well, by a control beside the attack or by the
// error that the attacker sees.
//
// The attacker's program is in attack. Attacks that need no whole engine have
// their tests beside the code; docs/security.md lists all.
package hostile
