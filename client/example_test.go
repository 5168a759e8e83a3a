package client_test

import (
	"context"
	"fmt"
	"os"

	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/client"
)

// A client is Docker's, with Porthole's hosts and what Porthole adds.
func ExampleNew() {
	ctx := context.Background()
	c, err := client.New(client.Options{Host: "unix:///run/porthole/porthole.sock"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() { _ = c.Close() }()

	list, err := c.ContainerList(ctx, mobyclient.ContainerListOptions{All: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, ctr := range list.Items {
		fmt.Println(ctr.ID[:12], ctr.Image, ctr.Status)
	}
}

// The daemon's errors come with the next thing to try.
func ExampleClient_Hint() {
	c, err := client.New(client.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() { _ = c.Close() }()

	_, err = c.ContainerStart(context.Background(), "web", mobyclient.ContainerStartOptions{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if hint := c.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
	}
}

// Where the time of a start went.
func ExampleClient_Isolation() {
	c, err := client.New(client.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() { _ = c.Close() }()

	isolation, err := c.Isolation(context.Background(), "web")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, step := range isolation.Steps {
		fmt.Printf("%6d us  %s\n", step.Microseconds, step.Name)
	}
}
