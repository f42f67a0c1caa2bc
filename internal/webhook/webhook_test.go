package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/webhook"
)

func TestTheAnswerMakesAProviderSendAgainWhatMustComeAgain(t *testing.T) {
	for name, row := range map[string]struct {
		err    error
		status int
	}{
		"done":                    {nil, http.StatusOK},
		"it can't be read":        {fault.New(fault.Invalid, nil), http.StatusBadRequest},
		"it isn't genuine":        {fault.New(fault.Denied, nil), http.StatusUnauthorized},
		"no such provider":        {fault.New(fault.NotFound, nil), http.StatusNotFound},
		"a database that is down": {fault.New(fault.Unavailable, errors.New("secret-detail")), http.StatusServiceUnavailable},
		"anything else":           {errors.New("secret-detail"), http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			w := serve(t, row.err, httptest.NewRequest(http.MethodPost, "/hooks/acme", strings.NewReader("raw")))
			assert.Equal(t, row.status, w.Code)
			assert.Equal(t, row.status == http.StatusServiceUnavailable, w.Header().Get("Retry-After") == "10")
			assert.Empty(t, w.Body.String())
		})
	}
}

// serve answers a request whose event ends with err.
func serve(t *testing.T, err error, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/hooks/{provider...}", webhook.Handler(func(_ context.Context, provider string, h http.Header, body []byte) error {
		assert.Equal(t, "acme", provider)
		assert.Equal(t, "raw", string(body))
		assert.NotNil(t, h)
		return err
	}))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func TestWhatIsNoEventIsRefusedUnread(t *testing.T) {
	get := serve(t, nil, httptest.NewRequest(http.MethodGet, "/hooks/acme", nil))
	assert.Equal(t, http.StatusMethodNotAllowed, get.Code)
	assert.Equal(t, http.MethodPost, get.Header().Get("Allow"))
	long := serve(t, nil, httptest.NewRequest(http.MethodPost, "/hooks/acme", bytes.NewReader(make([]byte, webhook.MaxBody+1))))
	assert.Equal(t, http.StatusRequestEntityTooLarge, long.Code)
	broken := serve(t, nil, httptest.NewRequest(http.MethodPost, "/hooks/acme", io.MultiReader(strings.NewReader("ra"), broken{})))
	assert.Equal(t, http.StatusBadRequest, broken.Code)
}

// broken is a body whose connection is lost.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestTheLongestEventIsTaken(t *testing.T) {
	h := webhook.Handler(func(_ context.Context, _ string, _ http.Header, body []byte) error {
		assert.Len(t, body, webhook.MaxBody)
		return nil
	})
	w := httptest.NewRecorder()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(make([]byte, webhook.MaxBody)))
	require.NoError(t, err)
	h.ServeHTTP(w, r)
	assert.Equal(t, http.StatusOK, w.Code)
}
