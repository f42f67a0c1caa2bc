package transport_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email/internal/transport"
)

func TestOnlyThisMachineIsTheLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true,
		"": false, "localhost.example.com": false, "10.0.0.1": false, "127.0.0.1.example.com": false, "0.0.0.0": false, "::": false,
	} {
		assert.Equal(t, want, transport.IsLoopback(host), host)
	}
}

type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

func TestALimitedBodyEndsAndCanBeClosed(t *testing.T) {
	b := &body{Reader: strings.NewReader("123456")}
	resp := &http.Response{Body: b}
	transport.Limit(resp, 4)
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "1234", string(got))
	require.NoError(t, resp.Body.Close())
	assert.True(t, b.closed)
}

func TestAnErrorIsFreedFromItsURL(t *testing.T) {
	cause := errors.New("connection refused")
	err := fmt.Errorf("send: %w", &url.Error{Op: "Post", URL: "https://u:password@x", Err: cause})
	assert.Equal(t, cause, transport.WithoutURL(err))
	assert.Equal(t, cause, transport.WithoutURL(cause))
}
