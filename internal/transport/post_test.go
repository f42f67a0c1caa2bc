package transport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/secret"
)

func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, *http.Client) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return srv, &http.Client{Transport: tr}
}

func TestPostIsOneRequestOfJSON(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		assert.Equal(t, "POST /mails", r.Method+" "+r.URL.Path)
		assert.Equal(t, `{"a":1}`, string(body))
		assert.Equal(t, []string{"application/json", "application/json", "k"}, []string{r.Header.Get("Accept"), r.Header.Get("Content-Type"), r.Header.Get("X-Key")})
		w.Header().Set("X-Id", "7")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "taken")
	})
	a, err := transport.Post(t.Context(), c, "acme", srv.URL+"/mails", http.Header{"X-Key": {"k"}}, []byte(`{"a":1}`))
	require.NoError(t, err)
	assert.True(t, a.OK())
	assert.Equal(t, []any{202, "7", "taken"}, []any{a.Status, a.Header.Get("X-Id"), string(a.Body)})
}

func TestARedirectIsAnAnswer(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	a, err := transport.Post(t.Context(), c, "acme", srv.URL, http.Header{}, nil)
	require.NoError(t, err)
	assert.False(t, a.OK())
	assert.Equal(t, http.StatusTemporaryRedirect, a.Status)
	assert.Nil(t, c.CheckRedirect, "the caller's client stays as it is")
}

func TestAStatusIsTheAnswerThoughItsBodyBreaksOff(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	a, err := transport.Post(t.Context(), c, "acme", srv.URL, http.Header{}, nil)
	require.NoError(t, err)
	assert.Equal(t, "half", string(a.Body))
}

func TestAnEndlessAnswerIsCut(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	a, err := transport.Post(t.Context(), c, "acme", srv.URL, http.Header{}, nil)
	require.NoError(t, err)
	assert.Len(t, a.Body, 1<<20)
}

func TestATransportErrorHasTheKindOfTheLatch(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	_, err := transport.Post(t.Context(), c, "acme", srv.URL, http.Header{}, nil)
	require.ErrorIs(t, err, fault.Uncertain)
	assert.ErrorContains(t, err, "acme: ")
	assert.NotContains(t, err.Error(), srv.URL)

	cut := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }}}
	_, err = transport.Post(t.Context(), cut, "acme", srv.URL, http.Header{}, nil)
	require.ErrorIs(t, err, fault.Unavailable)

	_, err = transport.Post(t.Context(), c, "acme", "::", http.Header{}, nil)
	require.ErrorIs(t, err, fault.Denied)
}

func TestHTMLStaysAsLongAsItIs(t *testing.T) {
	out, err := transport.JSON(map[string]string{"html": "<a&b>\n"})
	require.NoError(t, err)
	assert.Equal(t, `{"html":"<a&b>\n"}`, string(out)) //nolint:testifylint // to the letter: nothing is escaped
	_, err = transport.JSON(func() {})
	assert.Error(t, err)
}

func TestAClientWithoutATimeoutGetsOne(t *testing.T) {
	assert.Equal(t, time.Minute, transport.Client(nil).Timeout)
	assert.Equal(t, time.Minute, transport.Client(&http.Client{}).Timeout)
	assert.Equal(t, time.Second, transport.Client(&http.Client{Timeout: time.Second}).Timeout)
}

func TestAKeyIsOneThatAHeaderCanCarry(t *testing.T) {
	key, err := transport.Key(t.Context(), "acme: Key", secret.Literal("k-1"))
	require.NoError(t, err)
	assert.Equal(t, "k-1", key)
	for _, wrong := range []string{"", "two words", "private\nX-Injected: 1", "schlüssel"} {
		_, err := transport.Key(t.Context(), "acme: Key", secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue(wrong), nil }))
		require.ErrorIs(t, err, fault.Denied)
		assert.True(t, strings.HasSuffix(err.Error(), "acme: Key is empty or holds characters that no key has"), err)
	}
	sealed := errors.New("vault is sealed")
	broken := secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, sealed })
	_, err = transport.Key(t.Context(), "acme: Key", broken)
	require.ErrorIs(t, err, fault.Denied)
	require.ErrorIs(t, err, sealed)
	assert.ErrorContains(t, err, "acme: read Key: vault is sealed")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = transport.Key(ctx, "acme: Key", broken)
	require.ErrorIs(t, err, fault.Unavailable)
}

type attempt struct{ exchange fault.Exchange }

func (a *attempt) Note(f func(*fault.Exchange)) { f(&a.exchange) }
func (*attempt) Alive()                         {}

func TestAnExchangeIsNotedOnSuccessToo(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Request-Id", "req_1")
		_, _ = io.WriteString(w, "taken")
	})
	a := &attempt{}
	_, err := transport.Post(context.WithValue(t.Context(), fault.AttemptKey{}, a), c, "acme", srv.URL, http.Header{}, []byte("{}"))
	require.NoError(t, err)
	assert.Equal(t, fault.Exchange{Target: strings.TrimPrefix(srv.URL, "http://"), Status: 200, RequestID: "req_1", Sent: 2, Received: 5}, a.exchange)
}
