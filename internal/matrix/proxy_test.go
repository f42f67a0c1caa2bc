package matrix_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// proxy stands before a provider's server, at the level of TCP. It breaks off a
// request that is marked as hit, in its header or its body.
type proxy struct {
	c        cell
	server   string
	listener net.Listener
	spoiler  net.Listener // breaks handshakes, or holds them
	left     atomic.Int64 // how many it is still to break
	pull     func()
	ctx      context.Context //nolint:containedctx // ends what stalls
	end      context.CancelFunc
	all      sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, c cell, server string) *proxy {
	t.Helper()
	p := &proxy{c: c, server: server, pull: func() {}, conns: map[net.Conn]bool{}}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.left.Store(1 << 30)
	if c.Extent == once {
		p.left.Store(1)
	}
	p.listener, p.spoiler = listen(t), listen(t)
	p.all.Go(func() { p.accept(p.listener, p.serve) })
	p.all.Go(func() { p.accept(p.spoiler, p.spoil) })
	return p
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// close ends all connections.
func (p *proxy) close() {
	p.end()
	p.listener.Close()
	p.spoiler.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// heal breaks nothing any more. What stalls goes on stalling.
func (p *proxy) heal() { p.left.Store(0) }

func (p *proxy) accept(l net.Listener, serve func(client, server net.Conn)) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		p.all.Go(func() {
			defer p.drop(client, server)
			serve(client, server)
		})
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
		if p.ctx.Err() != nil {
			c.Close()
		}
	}
	return p.ctx.Err() == nil
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// errCut: the flaw has ended the connection.
var errCut = errors.New("cut")

// serve relays requests with an eye on their marks, and answers without one.
func (p *proxy) serve(client, server net.Conn) {
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, err := io.Copy(client, server)
		if err != nil { // the server's reset is the client's
			reset(client)
		}
		client.Close()
	}()
	up := relay{p, client, server}
	var err error
	switch {
	case p.c.Step == inTLS:
		_, err = io.Copy(server, client)
	case p.c.HTTP2:
		err = up.frames()
	default:
		err = up.messages()
	}
	if errors.Is(err, errCut) {
		<-back
		return
	}
	if err != nil {
		reset(server)
	}
	server.Close()
	<-back
}

func reset(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }

// relay is one connection.
type relay struct {
	*proxy

	client, server net.Conn
}

// breaks reports whether this request is to be broken off at that step.
func (r relay) breaks(marked bool, at step) bool {
	return marked && at == r.c.Step && r.left.Add(-1) >= 0
}

// cut does to the connection what the flaw is, when the first half of what was
// to come is out. A nil error means that the rest follows.
func (r relay) cut() error {
	switch r.c.Flaw {
	case resets:
		reset(r.client)
		reset(r.server)
	case truncates:
		_ = r.server.(*net.TCPConn).CloseWrite()
		return errCut
	case stalls:
		_, _ = io.Copy(io.Discard, r.client) // until the client gives up
	case closes:
	default:
		if !r.c.Flaw.ofWire() {
			r.pull()
		}
		return nil
	}
	r.client.Close()
	r.server.Close()
	return errCut
}

func (r relay) half(b []byte) error {
	if _, err := r.server.Write(b[:len(b)/2]); err != nil {
		return err
	}
	if err := r.cut(); err != nil {
		return err
	}
	_, err := r.server.Write(b[len(b)/2:])
	return err
}

// messages relays HTTP/1.1 in the clear.
func (r relay) messages() error {
	in := bufio.NewReader(r.client)
	for {
		header, err := headerOf(in)
		if err != nil {
			return ended(err)
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(header)))
		if err != nil {
			return err
		}
		marked := req.Header.Get(markHeader) == hit
		if r.breaks(marked, inHeader) {
			err = r.half(header)
		} else {
			_, err = r.server.Write(header)
		}
		if err != nil {
			return err
		}
		body, err := bodyOf(in, req)
		if err != nil {
			return err
		}
		if len(body) > 0 && r.breaks(marked, inBody) {
			err = r.half(body)
		} else {
			_, err = r.server.Write(body)
		}
		if err != nil {
			return err
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func headerOf(in *bufio.Reader) ([]byte, error) {
	var header []byte
	for {
		line, err := in.ReadBytes('\n')
		if header = append(header, line...); err != nil {
			return nil, err
		}
		if len(line) <= 2 && len(header) > 2 {
			return header, nil
		}
	}
}

// bodyOf reads a body as it is on the wire.
func bodyOf(in *bufio.Reader, req *http.Request) ([]byte, error) {
	if req.ContentLength >= 0 {
		body := make([]byte, req.ContentLength)
		_, err := io.ReadFull(in, body)
		return body, err
	}
	var body []byte // in chunks, of which the last is empty (RFC 9112, 7.1)
	for !bytes.HasSuffix(body, []byte("\r\n0\r\n\r\n")) && !bytes.Equal(body, []byte("0\r\n\r\n")) {
		line, err := in.ReadBytes('\n')
		if body = append(body, line...); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// frames relays HTTP/2 in the clear.
func (r relay) frames() error {
	if _, err := io.CopyN(r.server, r.client, int64(len(http2.ClientPreface))); err != nil {
		return ended(err)
	}
	marked := map[uint32]bool{}
	headers := hpack.NewDecoder(4096, nil)
	for {
		raw, frame, err := readFrame(r.client)
		if err != nil {
			return ended(err)
		}
		step := step("")
		switch frame.Type {
		case http2.FrameHeaders:
			fields, err := headers.DecodeFull(fragment(frame, raw[9:]))
			if err != nil {
				return err
			}
			for _, f := range fields {
				if f.Name == "matrix-mark" && f.Value == hit {
					marked[frame.StreamID] = true
				}
			}
			step = inHeader
		case http2.FrameData:
			if frame.Length > 0 {
				step = inBody
			}
		default:
		}
		if r.breaks(marked[frame.StreamID], step) {
			err = r.half(raw)
		} else {
			_, err = r.server.Write(raw)
		}
		if err != nil {
			return err
		}
	}
}

func readFrame(in io.Reader) (raw []byte, frame http2.FrameHeader, err error) {
	raw = make([]byte, 9)
	if _, err = io.ReadFull(in, raw); err != nil {
		return nil, frame, err
	}
	frame, err = http2.ReadFrameHeader(bytes.NewReader(raw))
	if err != nil {
		return nil, frame, err
	}
	payload := make([]byte, frame.Length)
	_, err = io.ReadFull(in, payload)
	return slices.Concat(raw, payload), frame, err
}

// fragment is a frame's header block, without padding and priority (RFC 9113, 6.2).
func fragment(frame http2.FrameHeader, payload []byte) []byte {
	if frame.Flags.Has(http2.FlagHeadersPadded) {
		payload = payload[1 : len(payload)-int(payload[0])]
	}
	if frame.Flags.Has(http2.FlagHeadersPriority) {
		payload = payload[5:]
	}
	return payload
}

// spoil breaks a handshake when the client has said its part of it.
func (p *proxy) spoil(client, server net.Conn) {
	hello := make([]byte, 1<<12)
	n, err := client.Read(hello)
	if err != nil {
		return
	}
	r := relay{p, client, server}
	switch {
	case p.left.Add(-1) < 0 || !p.c.Flaw.ofWire():
		if !p.c.Flaw.ofWire() {
			p.pull()
		}
		if _, err := server.Write(hello[:n]); err == nil {
			p.serve(client, server)
		}
	case p.c.Flaw == truncates: // the first bytes of a ServerHello
		_, _ = client.Write([]byte{22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3})
	default:
		_ = r.cut()
	}
}
