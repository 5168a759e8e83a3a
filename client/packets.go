package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// PacketsOptions say which packets [Client.Packets] captures.
type PacketsOptions struct {
	Interface string // empty: all
	// Filter is in the language of pcap-filter(7), as far as the daemon has it.
	// Hosts may be names of containers.
	Filter   string
	SnapLen  int           // bytes of a packet that are kept; 0: all
	Count    int           // packets; 0: no end
	Duration time.Duration // in whole seconds; 0: no end
}

func (o PacketsOptions) query() string {
	q := url.Values{}
	for key, value := range map[string]string{"interface": o.Interface, "filter": o.Filter} {
		if value != "" {
			q.Set(key, value)
		}
	}
	for key, n := range map[string]int{"snaplen": o.SnapLen, "count": o.Count, "seconds": int((o.Duration + time.Second - 1) / time.Second)} {
		if n > 0 {
			q.Set(key, strconv.Itoa(n))
		}
	}
	return q.Encode()
}

// Packets are captured packets, as a file of pcapng.
type Packets struct {
	io.ReadCloser
	end func()
}

// End asks the daemon to end the capture. What it has captured can still be read,
// and behind it how many packets were lost.
func (p *Packets) End() { p.end() }

// Packets captures packets of a running container, or of "host", until that ends,
// what was wanted is there, or [Packets.End] is called. When ctx ends the stream
// breaks off. The caller closes the result.
func (c *Client) Packets(ctx context.Context, container string, o PacketsOptions) (*Packets, error) {
	// The request has a body that lasts as long as the capture is to: its end is
	// how the daemon hears that it is enough.
	body, writer := io.Pipe()
	path := "/porthole/containers/" + url.PathEscape(container) + "/packets?" + o.query()
	var once sync.Once
	end := func() { once.Do(func() { _ = writer.Close() }) }
	resp, err := c.sendAs(ctx, http.MethodPost, path, "application/octet-stream", body)
	if err != nil {
		end()
		return nil, err
	}
	return &Packets{ReadCloser: &closing{resp.Body, end}, end: end}, nil
}

// closing ends the request's body with the answer's.
type closing struct {
	io.ReadCloser
	end func()
}

func (c *closing) Close() error {
	c.end()
	return c.ReadCloser.Close()
}
