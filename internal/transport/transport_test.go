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

	"github.com/smilefactory/integrations/internal/transport"
)

func TestOnlyThisMachineIsTheLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true,
		"": false, "localhost.example.com": false, "10.0.0.1": false, "127.0.0.1.example.com": false, "0.0.0.0": false, "::": false,
	} {
		assert.Equal(t, want, transport.IsLoopback(host), host)
	}
}

func TestABaseURLIsPlainAndEncrypted(t *testing.T) {
	for base, want := range map[string]string{
		"https://api.example.com":        "https://api.example.com",
		"https://api.example.com/v1/":    "https://api.example.com/v1",
		"http://localhost:1/":            "http://localhost:1",
		"http://[::1]:1":                 "http://[::1]:1",
		"http://api.example.com":         "",
		"http://localhost.example.com":   "",
		"ftp://localhost":                "",
		"api.example.com":                "",
		"https://":                       "",
		"https://u:private@example.com":  "",
		"https://example.com?private":    "",
		"https://example.com#private":    "",
		"https://exa mple.com/private\n": "",
		"::":                             "",
	} {
		got, err := transport.BaseURL(base)
		assert.Equal(t, want, got, base)
		if want == "" {
			require.ErrorContains(t, err, "BaseURL", base)
			assert.NotContains(t, err.Error(), "private")
		}
	}
}

type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

func TestABaseIsTheProvidersOwnUnlessOneIsGiven(t *testing.T) {
	const own = "https://api.acme.example"
	base, err := transport.Base("acme", "", own)
	require.NoError(t, err)
	assert.Equal(t, own, base)
	base, err = transport.Base("acme", "http://127.0.0.1:8080/", own)
	require.NoError(t, err)
	assert.Equal(t, "http://127.0.0.1:8080", base)
	_, err = transport.Base("acme", "http://api.acme.example", own)
	assert.ErrorContains(t, err, "acme: BaseURL must begin with https://")
}

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
