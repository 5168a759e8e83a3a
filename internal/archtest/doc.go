// Package archtest holds the import rules of this module, as a test.
//
// Imports point downwards:
//
//	cmd ▸ cli, server ▸ debug ▸ engine ▸ build ▸ image, network, volume, record
//	    ▸ runtime, shim ▸ linux ▸ sys
//
// Packages of one layer do not know each other, with the exceptions that the
// table says. Leaf packages (undo, event, crilog, ...) may be used by all and
// use nothing above linux. What each program must not contain, and who alone
// may import what from outside, stands in the second and third table.
//
// A new package under internal has to be put into the table, which is the
// moment to think about where it belongs.
package archtest
