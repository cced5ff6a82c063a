// A peer for our multiplexer, made of the Go implementation: one session over stdin and stdout.
//
//	yamux_peer server                     echoes every stream, until the session ends
//	yamux_peer client <streams> <bytes>   opens streams, sends that much on each, ends its direction, and wants
//	                                      it all back and then the end; then waits for our go-away
//
// Exits with 0 when all was as it should be; says on stderr what was not.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/yamux"
)

type stdio struct {
	io.Reader
	io.Writer
}

func (stdio) Close() error {
	os.Stdout.Close()
	return os.Stdin.Close()
}

func echo(stream *yamux.Stream) {
	if _, err := io.Copy(stream, stream); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
	}
	stream.Close()
}

func serve(session *yamux.Session) error {
	for {
		stream, err := session.AcceptStream()
		if errors.Is(err, io.EOF) || errors.Is(err, yamux.ErrSessionShutdown) {
			return nil
		}
		if err != nil {
			return err
		}
		go echo(stream)
	}
}

func pattern(size, seed int) []byte {
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(i*131 + i/251 + seed*17)
	}
	return text
}

func exchange(session *yamux.Session, size, seed int) error {
	stream, err := session.OpenStream()
	if err != nil {
		return err
	}
	sent := pattern(size, seed)
	failed := make(chan error, 1)
	go func() {
		_, err := stream.Write(sent)
		if err == nil {
			err = stream.Close()
		}
		failed <- err
	}()
	got, err := io.ReadAll(stream)
	if err != nil {
		return fmt.Errorf("stream %d: %w", stream.StreamID(), err)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("stream %d: %d bytes came back, and not what was sent", stream.StreamID(), len(got))
	}
	return <-failed
}

func waitForGoAway(session *yamux.Session) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		stream, err := session.OpenStream()
		if errors.Is(err, yamux.ErrRemoteGoAway) {
			return nil
		}
		if err != nil {
			return err
		}
		stream.Close()
	}
	return errors.New("no go-away came")
}

func ask(session *yamux.Session, streams, size int) error {
	results := make(chan error, streams)
	for seed := 0; seed < streams; seed++ {
		go func(seed int) { results <- exchange(session, size, seed) }(seed)
	}
	for i := 0; i < 10; i++ {
		if _, err := session.Ping(); err != nil {
			return err
		}
	}
	for i := 0; i < streams; i++ {
		if err := <-results; err != nil {
			return err
		}
	}
	if err := session.GoAway(); err != nil {
		return err
	}
	return waitForGoAway(session)
}

func run(arguments []string) error {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.LogOutput = io.Discard // it logs every frame that crosses a stream's end
	config.MaxStreamWindowSize = 1024 * 1024
	if arguments[0] == "server" {
		session, err := yamux.Server(stdio{os.Stdin, os.Stdout}, config)
		if err != nil {
			return err
		}
		return serve(session)
	}
	session, err := yamux.Client(stdio{os.Stdin, os.Stdout}, config)
	if err != nil {
		return err
	}
	streams, _ := strconv.Atoi(arguments[1])
	size, _ := strconv.Atoi(arguments[2])
	// Not closed: that would wait for the read of stdin, which the other side ends when this program has.
	return ask(session, streams, size)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "yamux_peer:", err)
		os.Exit(1)
	}
}
