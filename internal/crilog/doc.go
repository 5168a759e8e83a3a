// Package crilog keeps the output of one container in the Kubernetes CRI log
// format and reads it back.
package crilog
