package applet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/portholehq/porthole/internal/pcap"
	"github.com/portholehq/porthole/internal/pcap/capture"
)

// tcpdumpCommand shows packets, saves them, or shows those of a file. What it
// saves is pcapng.
func tcpdumpCommand(std IO, args []string) error {
	// Without names and line by line it is anyway; what v, q and e ask for there is not.
	o, err := parse(args, "nlUpvqeS", "icswr", nil)
	if err != nil {
		return err
	}
	spec := capture.Spec{Interface: o.value('i', ""), Filter: strings.Join(o.args, " ")}
	if spec.Interface == "any" {
		spec.Interface = ""
	}
	for letter, to := range map[byte]*int{'c': &spec.Count, 's': &spec.SnapLen} {
		if *to, err = strconv.Atoi(o.value(letter, "0")); err != nil || *to < 0 {
			return usageError("invalid number: " + o.value(letter, ""))
		}
	}
	text := &pcap.Text{Absolute: o.has('S')}
	if name := o.value('r', ""); name != "" {
		if spec.Filter != "" {
			return usageError("a filter does not go with -r")
		}
		return showFile(std, name, spec.Count, text)
	}
	c, err := capture.Open(spec)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	from, to := io.Pipe()
	go func() { _ = to.CloseWithError(c.Run(ctx, to)) }()
	defer from.Close()
	var in io.Reader = from
	if name := o.value('w', ""); name != "" {
		out := std.Out
		if name != "-" {
			f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			out = f
		}
		in, text = io.TeeReader(from, out), nil
	} else {
		fmt.Fprintln(std.Err, "tcpdump: listening, Ctrl-C ends")
	}
	n, stats, err := showPackets(std.Out, in, 0, text)
	if err == nil {
		fmt.Fprintf(std.Err, "%d packets captured\n%d packets dropped by kernel\n", n, stats.Dropped)
	}
	return err
}

func showFile(std IO, name string, most int, text *pcap.Text) error {
	in := std.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	_, _, err := showPackets(std.Out, in, most, text)
	return err
}

// showPackets prints the packets of a file, at most so many; 0: all. Without a
// text it only counts.
func showPackets(out io.Writer, in io.Reader, most int, text *pcap.Text) (n int, s pcap.Statistics, err error) {
	r, err := pcap.NewReader(in)
	if err != nil {
		return 0, s, err
	}
	for most == 0 || n < most {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, s, err
		}
		if p == nil {
			continue
		}
		n++
		if text == nil {
			continue
		}
		if _, err := fmt.Fprintln(out, text.Full(r.Interfaces()[p.Interface], p)); err != nil {
			return n, s, err
		}
	}
	return n, r.Statistics(), nil
}
