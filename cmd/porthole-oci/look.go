package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/oci"
)

func (a *app) list() *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{Use: "list", Short: "List containers", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		rt, err := a.runtime()
		if err != nil {
			return err
		}
		list, err := rt.List()
		if err != nil {
			return err
		}
		switch {
		case quiet:
			for _, s := range list {
				fmt.Println(s.ID)
			}
			return nil
		case format == "json":
			return printJSON(os.Stdout, list)
		case format != "table":
			return fmt.Errorf("unknown format %q: it is table or json", format)
		}
		w := tabwriter.NewWriter(os.Stdout, 12, 1, 3, ' ', 0)
		fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED")
		for _, s := range list {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", s.ID, s.Pid, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano))
		}
		return w.Flush()
	}}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	cmd.Flags().StringVarP(&format, "format", "f", "table", "table or json")
	return cmd
}

func (a *app) ps() *cobra.Command {
	var format string
	cmd := a.withID("ps", "List the processes of a container by their pids on the host", func(rt *oci.Runtime, id string) error {
		pids, err := rt.Pids(id)
		if err != nil {
			return err
		}
		switch format {
		case "json":
			return printJSON(os.Stdout, pids)
		case "table":
		default:
			return fmt.Errorf("unknown format %q: it is table or json", format)
		}
		w := tabwriter.NewWriter(os.Stdout, 8, 1, 2, ' ', 0)
		fmt.Fprintln(w, "PID\tCMD")
		for _, pid := range pids {
			fmt.Fprintf(w, "%d\t%s\n", pid, oci.CommandLine(pid))
		}
		return w.Flush()
	})
	cmd.Flags().StringVarP(&format, "format", "f", "table", "table or json")
	return cmd
}

func (a *app) events() *cobra.Command {
	var stats bool
	var interval time.Duration
	cmd := a.withID("events", "Print a container's use of resources as JSON, until it has stopped", func(rt *oci.Runtime, id string) error {
		return rt.Events(id, stats, interval, os.Stdout)
	})
	cmd.Flags().BoolVar(&stats, "stats", false, "print it once")
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "time between two lines")
	return cmd
}

func (a *app) features() *cobra.Command {
	return &cobra.Command{Use: "features", Short: "Print what the runtime can do as JSON", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return printJSON(os.Stdout, oci.Features(version))
	}}
}

func (a *app) spec() *cobra.Command {
	var bundle string
	cmd := &cobra.Command{Use: "spec", Short: "Write a config.json to begin with", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return oci.WriteSpec(bundle)
	}}
	cmd.Flags().StringVarP(&bundle, "bundle", "b", ".", "directory of the bundle")
	return cmd
}
