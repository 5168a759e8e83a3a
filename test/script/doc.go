// Package script runs the programs as people do: the files in testdata are
// scripts of commands with what they must print, see
// https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript for the
// language.
//
//	testdata/both  run twice, where `cli` is porthole and then docker
//	testdata/own   what only porthole has, or only docker can show
//	testdata/real  with the images of real services
//
// One daemon serves all scripts, in a world of its own (test/bed). After each
// script everything it made is removed, and nothing may be left: no process,
// mount, cgroup, interface or file.
//
// Commands that the scripts have beyond testscript's:
//
//	cli ARGS...              the command line that the script is run for
//	porthole ARGS..., docker ARGS...
//	compose ARGS...          docker compose, see test/compose
//	status CODE COMMAND...   the command must end with that code
//	until [-ok] PATTERN COMMAND...
//	                         repeats the command until its output matches;
//	                         -ok: and it succeeds
//	capture VAR COMMAND...   puts the command's output into a variable
//	image NAME...            makes sure that the daemon has these test images
//	daemon kill|stop|start|hup
//	fetch URL                asks a web server, from the host's side
//	clean                    removes all containers; nothing may be left
//	nothing-left             nothing may be left that was not there at the start
//
// One script alone: go test ./test/script -run 'TestScript/both/run$'
package script
